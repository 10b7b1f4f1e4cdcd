//! lisafs, over a socket and over channels.

mod behaviour;
mod channel;
mod confinement;
mod donated_root;
mod hammer;
mod hostile;
mod kills;
mod vectors;
