//! lisafs, over a socket and over channels.

mod behaviour;
mod channel;
mod confinement;
mod hostile;
mod vectors;
