//! The wire format against golden vectors that another implementation wrote.

mod behaviour;
mod fields;
mod messages;
