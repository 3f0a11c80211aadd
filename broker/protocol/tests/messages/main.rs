//! Every message in every version: against itself, against hostile bytes, against another codec.

mod codecs;
mod differential;
mod hostile;
mod round_trip;
