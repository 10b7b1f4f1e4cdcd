//! See `gofer_fuzz::server::p9`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::server::p9);
