//! See `gofer_fuzz::client::lisafs`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::client::lisafs);
