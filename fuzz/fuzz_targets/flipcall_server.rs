//! See `gofer_fuzz::window::server_side`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::window::server_side);
