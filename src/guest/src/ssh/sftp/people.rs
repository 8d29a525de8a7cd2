//! Names of users and groups by number, from the Spark's own databases.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::users;

/// Largest database that is read.
const MAX_DATABASE: u64 = 4 << 20;

/// Longest name; useradd(8) has 32.
const MAX_NAME: usize = 64;

/// Users and groups.
#[derive(Debug)]
pub struct People {
    users: Database,
    groups: Database,
}

impl Default for People {
    fn default() -> Self {
        Self { users: Database::at("/etc/passwd"), groups: Database::at("/etc/group") }
    }
}

impl People {
    /// Reads what has changed.
    pub fn refresh(&mut self) {
        self.users.refresh();
        self.groups.refresh();
    }

    pub fn user(&self, uid: u32) -> Option<&[u8]> {
        self.users.name(uid)
    }

    pub fn group(&self, gid: u32) -> Option<&[u8]> {
        self.groups.name(gid)
    }
}

/// One file of lines `name:password:number:…`.
#[derive(Debug)]
struct Database {
    path: PathBuf,
    /// What it was when it was read: inode, size, time of its last change.
    version: Option<(u64, u64, i64, i64)>,
    names: HashMap<u32, Vec<u8>>,
}

impl Database {
    fn at(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), version: None, names: HashMap::new() }
    }

    fn name(&self, id: u32) -> Option<&[u8]> {
        self.names.get(&id).map(Vec::as_slice)
    }

    fn refresh(&mut self) {
        let now = std::fs::metadata(&self.path)
            .ok()
            .map(|file| (file.ino(), file.size(), file.ctime(), file.ctime_nsec()));
        if now != self.version {
            self.version = now;
            self.names =
                users::small_file(&self.path, MAX_DATABASE).map(|text| parse(&text)).unwrap_or_default();
        }
    }
}

fn parse(text: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|_| (1..=MAX_NAME).contains(&name.len())) {
            // Of several names of a number, the first is the one that everybody else shows.
            names.entry(number).or_insert_with(|| name.to_vec());
        }
    }
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_broken_lines_do_not() {
        let names = parse(b"root:x:0:0\ntoor:x:0:0\n# no\n:x:5:\nbad:x:five:\nj\xfcrgen:x:7:7::/:\n");
        assert_eq!(names.get(&0).unwrap(), b"root");
        assert_eq!(names.get(&7).unwrap(), b"j\xfcrgen");
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn a_user_that_is_added_has_a_name_from_then_on() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("passwd");
        std::fs::write(&path, "a:x:1:1\n").unwrap();
        let mut database = Database::at(&path);
        database.refresh();
        assert_eq!((database.name(1), database.name(2)), (Some(&b"a"[..]), None));
        std::fs::write(&path, "a:x:1:1\nb:x:2:2\n").unwrap();
        database.refresh();
        assert_eq!(database.name(2), Some(&b"b"[..]));
        std::fs::remove_file(&path).unwrap();
        database.refresh();
        assert_eq!(database.name(1), None);
    }
}
