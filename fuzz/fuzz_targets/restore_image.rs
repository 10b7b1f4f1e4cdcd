//! See `gofer_fuzz::image::restore`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::image::restore);
