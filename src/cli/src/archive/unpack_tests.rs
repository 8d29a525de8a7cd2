use super::*;
use tar::{Builder, Header};
use tempfile::TempDir;

/// An archive with names as a hostile Spark would write them, which the crate's own writer refuses.
struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, name: &str, link: &str, data: &str) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o6755);
        header.set_cksum();
        self.0.append(&header, data.as_bytes()).unwrap();
        self
    }

    fn directory(self, name: &str) -> Self {
        self.add(EntryType::Directory, name, "", "")
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.add(EntryType::Regular, name, "", data)
    }

    fn symlink(self, name: &str, link: &str) -> Self {
        self.add(EntryType::Symlink, name, link, "")
    }

    fn unpack(self, into: &TempDir, name: Option<&str>) -> Result<Report, UnpackError> {
        let target = Target { directory: into.path().join("in"), name: name.map(Into::into) };
        unpack(self.0.into_inner().unwrap().as_slice(), &target)
    }
}

fn read(into: &TempDir, name: &str) -> String {
    fs::read_to_string(into.path().join(name)).unwrap()
}

#[test]
fn the_topmost_entry_gets_the_wanted_name_whatever_it_was_called() {
    let dir = TempDir::new().unwrap();
    Hostile::new().directory("top").file("top/f", "x").unpack(&dir, Some("new")).unwrap();
    assert_eq!(read(&dir, "in/new/f"), "x");
    Hostile::new().file("hosts", "y").unpack(&dir, Some("one")).unwrap();
    assert_eq!(read(&dir, "in/one"), "y");
}

#[test]
fn without_a_name_the_content_comes_into_the_directory() {
    let dir = TempDir::new().unwrap();
    Hostile::new().directory("top").file("top/f", "x").unpack(&dir, None).unwrap();
    assert_eq!(read(&dir, "in/f"), "x");
    Hostile::new().directory(".").file("./g", "y").unpack(&dir, None).unwrap();
    assert_eq!(read(&dir, "in/g"), "y");
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../f", "top/../../f", "/f", "other/f"] {
        let dir = TempDir::new().unwrap();
        let result = Hostile::new().directory("top").file(name, "x").unpack(&dir, Some("top"));
        assert!(matches!(result, Err(UnpackError::Escape(_))), "{name}: {result:?}");
        assert!(!dir.path().join("f").exists());
    }
}

#[test]
fn a_link_in_the_archive_is_never_written_through() {
    let dir = TempDir::new().unwrap();
    let archive = Hostile::new().directory("t").symlink("t/l", "..").file("t/l/f", "x");
    // The link comes last and finds a directory in its way.
    assert!(archive.unpack(&dir, Some("t")).is_err() || !dir.path().join("f").exists());
    assert!(!dir.path().join("in/f").exists() && !dir.path().join("f").exists());
}

#[test]
fn a_link_that_is_there_already_is_never_written_through() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("in/t")).unwrap();
    fs::write(dir.path().join("victim"), "safe").unwrap();
    symlink("../../victim", dir.path().join("in/t/f")).unwrap();
    Hostile::new().directory("t").file("t/f", "x").unpack(&dir, Some("t")).unwrap();
    assert_eq!((read(&dir, "victim").as_str(), read(&dir, "in/t/f").as_str()), ("safe", "x"));

    symlink(dir.path(), dir.path().join("in/t/d")).unwrap();
    let result = Hostile::new().directory("t").file("t/d/g", "x").unpack(&dir, Some("t"));
    assert!(matches!(result, Err(UnpackError::InTheWay { .. })), "{result:?}");
    assert!(!dir.path().join("g").exists());
}

#[test]
fn links_that_lead_out_are_left_out_and_others_are_kept() {
    let dir = TempDir::new().unwrap();
    let archive = Hostile::new().directory("t").symlink("t/out", "/etc/passwd").symlink("t/up", "../x");
    let archive = archive.directory("t/d").symlink("t/d/chained", "../in/../../x");
    let report = archive.symlink("t/in", "f").file("t/f", "x").unpack(&dir, Some("t")).unwrap();
    assert_eq!(report.left_out.len(), 3);
    assert_eq!(read(&dir, "in/t/in"), "x");
}

#[test]
fn a_hard_link_reaches_files_of_the_copy_only() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("victim"), "safe").unwrap();
    for link in ["../victim", "/etc/passwd", "t/missing"] {
        let archive = Hostile::new().directory("t").add(EntryType::Link, "t/h", link, "");
        assert!(archive.unpack(&dir, Some("t")).is_err(), "{link}");
    }
    let archive = Hostile::new().directory("t").file("t/f", "x").add(EntryType::Link, "t/h", "t/f", "");
    archive.unpack(&dir, Some("t")).unwrap();
    assert_eq!(read(&dir, "in/t/h"), "x");
}

#[test]
fn set_user_id_is_not_taken_over() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    Hostile::new().file("f", "x").unpack(&dir, Some("f")).unwrap();
    let mode = fs::metadata(dir.path().join("in/f")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7000, 0);
}
