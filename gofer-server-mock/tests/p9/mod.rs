//! The 9P server over its connections.

mod behaviour;
mod channel;
mod client;
mod concurrency;
mod deviations;
mod hostile;
mod load;
mod transcripts;
