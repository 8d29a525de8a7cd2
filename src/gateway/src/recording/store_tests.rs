#![allow(clippy::unwrap_used)]

use std::{io::Write, time::Instant};

use super::*;
use crate::recording::{
    cast::{Event, Origin},
    file::{Ended, TRAILER, adopt},
};

fn header() -> Header {
    let sparks = Origin { namespace: "team-a".into(), spark: "api".into(), ..Default::default() };
    Header { version: 3, sparks, ..Default::default() }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("recordings")).unwrap();
    (folder, store)
}

/// What a sweep ends; what can't be read is left out.
fn orphans(store: &Store) -> Vec<Ended> {
    store.unfinished().into_iter().filter_map(|path| adopt(path).ok().flatten()).collect()
}

fn path(store: &Store, recording: &Recording) -> PathBuf {
    store.path("team-a", "api", recording.id()).unwrap().unwrap()
}

fn append(store: &Store, recording: &Recording) -> File {
    File::options().append(true).open(path(store, recording)).unwrap()
}

#[tokio::test]
async fn a_recording_is_listed_while_it_goes_on_and_when_it_has_ended() {
    let (_folder, store) = store();
    let mut recording = store.begin(&header()).unwrap();
    recording.event(&Event::Output(b"hello"), Instant::now()).unwrap();
    recording.event(&Event::Exit("3"), Instant::now()).unwrap();
    assert_eq!(store.list("team-a", None).unwrap()[0].trailer, None);
    let mut ended = recording.into_ended().unwrap();
    for previous in ["aa", "bb"] {
        ended.write_trailer(previous.into()).await.unwrap();
    }
    ended.publish().await.unwrap();
    let all = store.list("team-a", Some("api")).unwrap();
    let trailer = all[0].trailer.clone().unwrap();
    assert_eq!((all.len(), trailer.previous.as_str(), trailer.exit.as_deref()), (1, "bb", Some("3")));
    let text = fs::read_to_string(store.path("team-a", "api", &all[0].id).unwrap().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 4, "header, output, exit, one last line: {text}");
}

#[tokio::test]
async fn what_a_dead_replica_left_is_ended_and_what_a_living_one_writes_is_not_touched() {
    let (_folder, store) = store();
    let mut recording = store.begin(&header()).unwrap();
    recording.event(&Event::Output(b"x"), Instant::now()).unwrap();
    assert!(orphans(&store).is_empty());
    append(&store, &recording).write_all(b"[0.0, \"o\", \"hal").unwrap();
    drop(recording);
    let mut orphans = orphans(&store);
    assert_eq!(orphans[0].trailer.exit.as_deref(), Some("lost"));
    orphans[0].write_trailer("p".into()).await.unwrap();
    orphans.remove(0).publish().await.unwrap();
    let all = store.list("team-a", None).unwrap();
    let text = fs::read_to_string(store.path("team-a", "api", &all[0].id).unwrap().unwrap()).unwrap();
    assert!(!text.contains("hal") && text.lines().last().unwrap().starts_with(TRAILER), "{text}");
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let (_folder, store) = store();
    for bad in ["..", "a/b", "", ".", "a\0"] {
        assert!(store.list(bad, None).is_err() && store.path("a", "b", bad).is_err(), "{bad:?}");
        assert!(store.list("a", Some(bad)).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn only_what_has_ended_and_is_old_is_removed() {
    let (_folder, store) = store();
    let open = store.begin(&header()).unwrap();
    let mut ended = store.begin(&header()).unwrap().into_ended().unwrap();
    ended.write_trailer(String::new()).await.unwrap();
    ended.publish().await.unwrap();
    store.prune(Duration::from_secs(3600));
    assert_eq!(store.list("team-a", None).unwrap().len(), 2);
    store.prune(Duration::ZERO);
    let left = store.list("team-a", None).unwrap();
    assert_eq!((left.len(), left[0].id.as_str()), (1, open.id()));
}

#[test]
fn what_nobody_writes_and_has_no_header_is_removed_when_it_is_old() {
    let (_folder, store) = store();
    let written = store.begin(&header()).unwrap();
    let wrecks = ["", "{", &format!("{{{}}}\n", " ".repeat(100_000))].map(|text| {
        let path = path(&store, &store.begin(&header()).unwrap());
        fs::write(&path, text).unwrap();
        path
    });
    let locked = store.begin(&header()).unwrap();
    append(&store, &locked).set_len(0).unwrap();
    assert!(orphans(&store).is_empty());
    store.prune(Duration::from_secs(3600));
    assert!(wrecks.iter().all(|path| path.exists()));
    store.prune(Duration::ZERO);
    assert!(!wrecks.iter().any(|path| path.exists()));
    assert!(path(&store, &written).exists() && path(&store, &locked).exists());
}

#[test]
fn what_lies_on_the_volume_counts_against_its_namespaces_limit() {
    let (folder, store) = store();
    let mut before = store.begin(&header()).unwrap();
    before.event(&Event::Output(&[b'x'; 50_000]), Instant::now()).unwrap();
    let limits = Limits { recordings_namespace_max_bytes: 50_000, ..Limits::default() };
    let store = Store::limited(folder.path().join("recordings"), limits).unwrap();
    store.begin(&header()).unwrap();
    store.count();
    assert!(matches!(store.begin(&header()).err(), Some(RecordError::NamespaceFull { .. })));
    let mut other = header();
    other.sparks.namespace = "team-b".into();
    store.begin(&other).unwrap();
}

#[tokio::test]
async fn the_hash_that_was_made_while_writing_is_that_of_the_file() {
    let (_folder, store) = store();
    let mut recording = store.begin(&header()).unwrap();
    for text in ["hello", "half \u{fffd}", "more"] {
        recording.event(&Event::Output(text.as_bytes()), Instant::now()).unwrap();
    }
    recording.event(&Event::Output(b"\xc3"), Instant::now()).unwrap();
    let path = path(&store, &recording);
    let mut ended = recording.into_ended().unwrap();
    let first = ended.write_trailer("aa".into()).await.unwrap();
    assert_eq!(first, sha256(&path));
    let second = ended.write_trailer("bb".into()).await.unwrap();
    assert_eq!(second, sha256(&path));
    assert!(ended.is(&second) && !ended.is(&first));
    drop(ended);
    // Its replica died before it could say the hash.
    let mut orphan = orphans(&store).remove(0);
    assert!(orphan.is(&second));
    assert_eq!(orphan.write_trailer("cc".into()).await.unwrap(), sha256(&path));
}

fn sha256(path: &Path) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, &fs::read(path).unwrap());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
