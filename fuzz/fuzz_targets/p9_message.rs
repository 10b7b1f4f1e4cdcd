//! See `gofer_fuzz::p9::message`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::p9::message);
