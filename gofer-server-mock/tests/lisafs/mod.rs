//! lisafs, over a socket and over channels.

mod behaviour;
mod channel;
mod clauses;
mod confinement;
mod direct;
mod donated_root;
mod given_away;
mod hammer;
mod hostile;
mod kills;
mod vectors;
