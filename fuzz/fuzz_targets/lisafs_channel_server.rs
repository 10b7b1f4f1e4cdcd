//! See `gofer_fuzz::window::lisafs_server`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::window::lisafs_server);
