//! The client against servers that do as they are told, over a socket pair.

mod agreeable;
mod channels;
mod connecting;
mod connecting_again;
mod data;
mod flushing;
mod listing;
mod losing;
mod making;
mod peer;
mod pipelining;
mod receiving;
mod sharing;
mod walking;
