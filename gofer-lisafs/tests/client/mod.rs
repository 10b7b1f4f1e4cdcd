//! The client against servers that follow a script.

mod allocations;
mod behaviour;
mod channel_setup;
mod channels;
mod connecting;
mod data;
mod giving_up;
mod listing;
mod loss;
mod operations;
mod sharing;
mod sockets;
mod tracing_lines;
mod walking;
