//! Packing local files for a Spark.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

/// Packs a file or a directory with everything in it. The topmost entry is called `top`; `.` stands for the directory
/// that it is extracted into. All belongs to root, as with `docker cp`, because local users mean nothing in a Spark.
/// Returns what was left out.
pub fn pack(source: &Path, top: &str, out: impl Write) -> io::Result<Vec<String>> {
    let mut tar = Builder::new(out);
    let mut left_out = Vec::new();
    // Only what was named itself is followed, as cp and scp do.
    let mut todo = vec![(fs::canonicalize(source)?, PathBuf::from(top))];
    while let Some((path, name)) = todo.pop() {
        let metadata = fs::symlink_metadata(&path).map_err(|error| about(&path, &error))?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            append(&mut tar, &metadata, &name, EntryType::Directory, 0, io::empty())?;
            todo.extend(names(&path)?.into_iter().rev().map(|child| (path.join(&child), name.join(&child))));
        } else if kind.is_file() {
            let file = File::open(&path).map_err(|error| about(&path, &error))?;
            let size = metadata.len();
            append(&mut tar, &metadata, &name, EntryType::Regular, size, Exactly { file, left: size })?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(|error| about(&path, &error))?;
            let mut header = header(&metadata, EntryType::Symlink, 0);
            tar.append_link(&mut header, &name, target)?;
        } else {
            left_out.push(format!("{} is left out: it is a socket, a FIFO or a device", path.display()));
        }
    }
    tar.into_inner()?.flush()?;
    Ok(left_out)
}

fn append(
    tar: &mut Builder<impl Write>,
    metadata: &Metadata,
    name: &Path,
    kind: EntryType,
    size: u64,
    data: impl Read,
) -> io::Result<()> {
    tar.append_data(&mut header(metadata, kind, size), name, data)
}

fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(directory).map_err(|error| about(directory, &error))?;
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A file that is as long as it was when its header was written, whatever happens to it meanwhile.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = match self.file.read(&mut buffer[..room])? {
            0 => {
                buffer[..room].fill(0);
                room
            }
            n => n,
        };
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_packed_under_its_new_name_and_belongs_to_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("sub/link")).unwrap();
        let mut tar = Vec::new();
        assert_eq!(pack(dir.path(), "new", &mut tar).unwrap(), Vec::<String>::new());
        let mut archive = tar::Archive::new(tar.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.header().uid().unwrap(), 0);
            entry.path().unwrap().display().to_string()
        });
        let names: Vec<String> = entries.collect();
        assert_eq!(names, ["new", "new/sub", "new/sub/file", "new/sub/link"]);
    }

    #[test]
    fn a_file_that_shrinks_does_not_break_the_stream() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "ab").unwrap();
        let mut read = Exactly { file: File::open(dir.path().join("f")).unwrap(), left: 5 };
        let mut got = Vec::new();
        read.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"ab\0\0\0");
    }
}
