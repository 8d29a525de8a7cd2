//! `generate`: everything in the repository that is derived from the API types and the charts.

mod argocd;
mod crds;
mod manifests;
mod reference;

use std::{collections::BTreeMap, fs, path::Path, path::PathBuf};

use anyhow::Context as _;

/// Arguments of `generate`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Writes nothing; fails when a file is not what it would be
    #[arg(long)]
    check: bool,
}

/// Generated text by its path in the workspace.
type Files = BTreeMap<PathBuf, String>;

/// Folders that hold generated YAML only, so that a file nobody generates any more is removed.
const GENERATED_ONLY: [&str; 2] = ["crds", "charts/sparks-crds/templates"];

/// Writes (or checks) all generated files.
pub fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let crds = crds::definitions()?;
    let mut stale = sync(root, &crds::files(&crds)?, arguments.check)?;
    stale.extend(remove_strays(root, &crds::files(&crds)?, arguments.check)?);
    stale.extend(sync(root, &reference::files(&crds), arguments.check)?);
    stale.extend(sync(root, &argocd::files(root, &crds)?, arguments.check)?);
    stale.extend(sync(root, &manifests::files(root)?, arguments.check)?);
    if arguments.check && !stale.is_empty() {
        let list: Vec<_> = stale.iter().map(|p| format!("  {}", p.display())).collect();
        anyhow::bail!("out of date (run `make generate` and commit the result):\n{}", list.join("\n"));
    }
    Ok(())
}

/// Writes the files that differ, and returns their names.
fn sync(root: &Path, files: &Files, check: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for (path, text) in files {
        let target = root.join(path);
        if fs::read_to_string(&target).is_ok_and(|old| old == *text) {
            continue;
        }
        if !check {
            let folder = target.parent().context("a generated file is in a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            fs::write(&target, text).with_context(|| format!("writing {}", target.display()))?;
            println!("wrote {}", path.display());
        }
        stale.push(path.clone());
    }
    Ok(stale)
}

/// Removes YAML files from the generated folders that are not in `files`, and returns their names.
fn remove_strays(root: &Path, files: &Files, check: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut strays = Vec::new();
    for folder in GENERATED_ONLY {
        for entry in fs::read_dir(root.join(folder)).with_context(|| format!("reading {folder}"))? {
            let path = Path::new(folder).join(entry?.file_name());
            if path.extension().is_some_and(|e| e == "yaml") && !files.contains_key(&path) {
                if !check {
                    fs::remove_file(root.join(&path))?;
                    println!("removed {}", path.display());
                }
                strays.push(path);
            }
        }
    }
    Ok(strays)
}
