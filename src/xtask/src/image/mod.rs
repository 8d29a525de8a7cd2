//! `image`: packs an OCI image archive without a registry and without a container engine.
//!
//! The same input gives the same bytes, so the digest tells whether anything changed.

mod archive;
mod layer;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use archive::{Blob, Image};

/// Arguments of `image`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name and tag, such as localhost/sparks/guest:dev
    name: String,
    /// Archive to write
    #[arg(long)]
    out: PathBuf,
    /// Layer: a tar of a root filesystem, taken as it is; can be given more than once
    #[arg(long)]
    rootfs: Vec<PathBuf>,
    /// File or folder for the last layer, as HOST_PATH=IMAGE_PATH; can be given more than once
    #[arg(long, value_parser = pair)]
    file: Vec<(String, String)>,
    /// Empty folder for the last layer, as IMAGE_PATH or IMAGE_PATH=MODE; can be given more than once
    #[arg(long)]
    dir: Vec<String>,
    /// Word of the entrypoint; can be given more than once
    #[arg(long, allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// Word of the default command; can be given more than once
    #[arg(long, allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// Environment variable, as NAME=VALUE; can be given more than once
    #[arg(long, value_parser = pair)]
    env: Vec<(String, String)>,
    /// Label, as NAME=VALUE; can be given more than once
    #[arg(long, value_parser = pair)]
    label: Vec<(String, String)>,
    /// User, as NAME or UID[:GID]
    #[arg(long)]
    user: Option<String>,
}

/// Packs the image, and prints its second name, whose tag is made from its content.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut layers = Vec::new();
    for rootfs in &arguments.rootfs {
        layers.push(Blob::from_file(rootfs)?);
    }
    if !arguments.file.is_empty() || !arguments.dir.is_empty() {
        layers.push(Blob::from_bytes(layer::pack(&arguments.file, &arguments.dir)?));
    }
    anyhow::ensure!(!layers.is_empty(), "an image needs at least one of --rootfs, --file and --dir");
    let image = Image {
        name: &arguments.name,
        layers,
        entrypoint: &arguments.entrypoint,
        cmd: &arguments.cmd,
        env: &arguments.env,
        labels: &arguments.label,
        user: arguments.user.as_deref(),
    };
    if let Some(folder) = arguments.out.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    println!("{}", image.write(&arguments.out)?);
    Ok(())
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(a, b)| (a.into(), b.into())).ok_or_else(|| format!("{text} has no ="))
}
