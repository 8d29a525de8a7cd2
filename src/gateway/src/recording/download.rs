//! A recording on its way to a client, a piece at a time.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{cast::Version2, lines::Lines};

/// Bytes of a piece, about.
const PIECE: usize = 64 << 10;

/// What is left of a recording.
pub enum Download {
    /// As it is in the file.
    AsItIs(File),
    /// In version 2 of asciicast.
    Version2(Version2<File>),
}

impl Download {
    /// Opens a recording.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn open(path: &Path, is_version_2: bool) -> io::Result<Self> {
        Ok(if is_version_2 {
            Self::Version2(Version2::new(Lines::open(path)?))
        } else {
            Self::AsItIs(File::open(path)?)
        })
    }

    /// The next piece; none at the end. It reads a file: call it where that may block.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut piece = Vec::with_capacity(PIECE);
        match self {
            Self::AsItIs(file) => {
                file.take(PIECE as u64).read_to_end(&mut piece)?;
            }
            Self::Version2(lines) => {
                while piece.len() < PIECE
                    && let Some(line) = lines.line()?
                {
                    piece.extend_from_slice(line.as_bytes());
                }
            }
        }
        Ok((!piece.is_empty()).then_some(piece))
    }
}
