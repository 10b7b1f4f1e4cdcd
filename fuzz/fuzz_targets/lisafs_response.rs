//! See `gofer_fuzz::lisafs::response`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::lisafs::response);
