//! lisafs, over a socket and over channels.

mod behaviour;
mod channel;
mod confinement;
mod donated_root;
mod hostile;
mod vectors;
