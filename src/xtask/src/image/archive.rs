//! The archive: an OCI image layout in a tar, as `ctr images import` reads it.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Hexadecimal digits of the digest in a tag made from the content.
const TAG_DIGITS: usize = 12;

/// What an image is made of.
pub struct Image<'a> {
    /// Name and tag.
    pub name: &'a str,
    /// Uncompressed layers, the lowest first.
    pub layers: Vec<Blob>,
    /// Entrypoint.
    pub entrypoint: &'a [String],
    /// Default command.
    pub cmd: &'a [String],
    /// Environment.
    pub env: &'a [(String, String)],
    /// Labels.
    pub labels: &'a [(String, String)],
    /// User.
    pub user: Option<&'a str>,
}

/// Content that is named by its digest.
pub struct Blob {
    hex: String,
    size: u64,
    source: Source,
}

enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Blob {
    /// A blob from memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { hex: hex(&Sha256::digest(&bytes)), size: bytes.len() as u64, source: Source::Bytes(bytes) }
    }

    /// A blob from a file, which may be larger than memory.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let mut hasher = Sha256::new();
        let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let size = io::copy(&mut file, &mut hasher).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { hex: hex(&hasher.finalize()), size, source: Source::File(path.to_owned()) })
    }

    fn json(value: &Value) -> Self {
        Self::from_bytes(value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest(), "size": self.size})
    }

    fn open(&self) -> anyhow::Result<Box<dyn Read + '_>> {
        Ok(match &self.source {
            Source::Bytes(bytes) => Box::new(bytes.as_slice()),
            Source::File(path) => Box::new(BufReader::new(File::open(path)?)),
        })
    }
}

impl Image<'_> {
    /// Writes the archive, and returns the image's second name: its repository with a tag made from its content.
    pub fn write(&self, out: &Path) -> anyhow::Result<String> {
        let config = Blob::json(&self.config());
        let layers: Vec<_> =
            self.layers.iter().map(|l| l.descriptor("application/vnd.oci.image.layer.v1.tar")).collect();
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": layers,
        }));
        let by_content = self.by_content(&manifest)?;
        let index = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [named(&manifest, self.name), named(&manifest, &by_content)],
        }));

        // A half-written archive must never look like a whole one.
        let partial = out.with_extension("partial");
        let file = File::create(&partial).with_context(|| format!("writing {}", partial.display()))?;
        let mut tar = Builder::new(BufWriter::new(file));
        add(&mut tar, "oci-layout", &Blob::json(&json!({"imageLayoutVersion": "1.0.0"})))?;
        add(&mut tar, "index.json", &index)?;
        for blob in [&manifest, &config].into_iter().chain(&self.layers) {
            add(&mut tar, &format!("blobs/sha256/{}", blob.hex), blob)?;
        }
        tar.into_inner()?.flush()?;
        std::fs::rename(&partial, out).with_context(|| format!("writing {}", out.display()))?;
        Ok(by_content)
    }

    fn config(&self) -> Value {
        let pairs = |all: &[(String, String)]| -> Vec<String> {
            all.iter().map(|(k, v)| format!("{k}={v}")).collect()
        };
        let labels: serde_json::Map<_, _> = self.labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.cmd,
                "Env": pairs(self.env),
                "Labels": labels,
                "User": self.user.unwrap_or_default(),
            },
            "rootfs": {"type": "layers", "diff_ids": self.layers.iter().map(Blob::digest).collect::<Vec<_>>()},
        })
    }

    fn by_content(&self, manifest: &Blob) -> anyhow::Result<String> {
        let (repository, tag) =
            self.name.rsplit_once(':').context("the name needs a tag, such as localhost/a:dev")?;
        anyhow::ensure!(!tag.contains('/'), "the name {} needs a tag", self.name);
        Ok(format!("{repository}:{}", &manifest.hex[..TAG_DIGITS]))
    }
}

/// containerd takes the whole name from its own annotation, others from the tag.
fn named(manifest: &Blob, name: &str) -> Value {
    let mut descriptor = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    descriptor["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    descriptor
}

fn add<W: Write>(tar: &mut Builder<W>, path: &str, blob: &Blob) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(blob.size);
    tar.append_data(&mut header, path, blob.open()?).with_context(|| format!("writing {path}"))
}

/// The name that OCI has for the processor of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn image(content: &str, out: &Path) -> String {
        Image {
            name: "localhost/a/b:dev",
            layers: vec![Blob::from_bytes(content.into())],
            entrypoint: &["/b".to_owned()],
            cmd: &[],
            env: &[],
            labels: &[],
            user: None,
        }
        .write(out)
        .unwrap()
    }

    #[test]
    fn the_tag_follows_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, c) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        let names = [image("one", &a), image("one", &b), image("two", &c)];
        assert_eq!(names[0], names[1]);
        assert_ne!(names[0], names[2]);
        assert!(names[0].starts_with("localhost/a/b:"));
        assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    }

    #[test]
    fn the_index_has_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a");
        let by_content = image("one", &out);
        let mut archive = tar::Archive::new(File::open(out).unwrap());
        let entry =
            archive.entries().unwrap().find(|e| e.as_ref().unwrap().path().unwrap().ends_with("index.json"));
        let index: Value = serde_json::from_reader(entry.unwrap().unwrap()).unwrap();
        let names: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["annotations"]["io.containerd.image.name"])
            .collect();
        assert_eq!(names, ["localhost/a/b:dev", by_content.as_str()]);
    }
}
