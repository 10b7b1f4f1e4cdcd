//! See `gofer_fuzz::lisafs::request`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::lisafs::request);
