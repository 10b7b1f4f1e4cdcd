//! See `gofer_fuzz::server::lisafs`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::server::lisafs);
