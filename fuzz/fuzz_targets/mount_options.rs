//! See `gofer_fuzz::options::mount_options`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::options::mount_options);
