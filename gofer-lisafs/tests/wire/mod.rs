//! The wire format against golden vectors that another implementation wrote.

mod behaviour;
mod channels;
mod fields;
mod messages;
