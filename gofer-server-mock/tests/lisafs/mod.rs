//! lisafs over a socket.

mod behaviour;
mod confinement;
mod hostile;
mod vectors;
