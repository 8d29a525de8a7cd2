//! The local side of `spark cp`: packing and unpacking tar streams.

mod pack;
mod unpack;

pub use pack::pack;
pub use unpack::{Report, Target, UnpackError, first_is_directory, unpack};
