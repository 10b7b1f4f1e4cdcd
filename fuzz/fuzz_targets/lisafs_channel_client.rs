//! See `gofer_fuzz::channel::lisafs_client`.

#![cfg_attr(fuzzing, no_main)]

gofer_fuzz::target!(gofer_fuzz::channel::lisafs_client);
