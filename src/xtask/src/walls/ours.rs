//! Whose files these are: all that is in this repository is ours. Code of others comes by cargo and Go, and what it lacks is a
//! patch in `docs/upstream`, of which there may not be many.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;

/// Folders in which copies of others' code are kept everywhere.
const FOLDERS_OF_OTHERS: [&str; 5] = ["vendor", "vendored", "third_party", "third-party", "node_modules"];

/// Where programs are, by their extension. Those of a language that isn't here are nowhere.
const HOMES: [(&str, &[&str]); 5] = [
    ("rs", &["src/", "tests/"]),
    ("go", &["cluster/tools/", "tests/kstatus/"]),
    ("c", &["cluster/pause/"]),
    ("lua", &["manifests/argocd/"]),
    ("sh", &[""]),
];
const LANGUAGES: [&str; 17] =
    ["rs", "go", "c", "sh", "h", "cc", "cpp", "hpp", "s", "py", "js", "ts", "java", "rb", "pl", "zig", "lua"];

/// Where patches are, and how many lines they may have together: more would be a fork.
const PATCHES: &str = "docs/upstream/";
const MOST_PATCH_LINES: usize = 1400;

/// What others begin their files with; ours have one LICENSE for all.
const CLAIMS: [&str; 4] = ["copyright", "spdx-license-identifier", "licensed under", "all rights reserved"];
/// So far into a file they are looked for.
const HEAD: usize = 20;

/// All files of the working tree that seem to be somebody else's, each as a sentence.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("running git ls-files")?;
    anyhow::ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).context("reading the names of files")?;
    let (mut broken, mut patch_lines) = (Vec::new(), 0);
    for path in paths.split_terminator('\0') {
        // What was removed and not yet committed is still listed.
        let Ok(content) = fs::read(root.join(path)) else { continue };
        let text = String::from_utf8_lossy(&content);
        broken.extend(file(path, &text));
        if extension(path) == Some("patch") {
            patch_lines += text.lines().count();
        }
    }
    broken.extend(too_long(patch_lines));
    Ok(broken)
}

fn too_long(patch_lines: usize) -> Option<String> {
    (patch_lines > MOST_PATCH_LINES)
        .then(|| format!("the patches in {PATCHES} have {patch_lines} lines; at most {MOST_PATCH_LINES}"))
}

fn extension(path: &str) -> Option<&str> {
    Path::new(path).extension()?.to_str()
}

/// Why a file seems to be somebody else's, if it does.
fn file(path: &str, text: &str) -> Option<String> {
    if let Some(folder) = path.split('/').find(|folder| FOLDERS_OF_OTHERS.contains(folder)) {
        return Some(format!("{path} is in a folder {folder}: code of others is no part of this repository"));
    }
    if matches!(extension(path), Some("patch" | "diff")) && !path.starts_with(PATCHES) {
        return Some(format!("{path} changes code of others: that is in {PATCHES}, with its reason"));
    }
    if let Some(language) = extension(path).filter(|extension| LANGUAGES.contains(extension))
        && !homes(language).iter().any(|home| path.starts_with(home))
    {
        let homes = if homes(language).is_empty() { "nowhere".into() } else { homes(language).join(" and ") };
        return Some(format!("{path} is no program of ours: those in .{language} are {homes}"));
    }
    let claim = (1..).zip(text.lines().take(HEAD)).find(|(_, line)| is_claim(line));
    claim
        .filter(|_| path != "LICENSE")
        .map(|(number, line)| format!("{path}:{number} says whose it is ({}): not ours", line.trim()))
}

fn homes(language: &str) -> &'static [&'static str] {
    HOMES.iter().find(|(extension, _)| *extension == language).map_or(&[], |(_, homes)| homes)
}

/// Whether a comment says who has the rights.
fn is_claim(line: &str) -> bool {
    let line = line.trim_start().to_lowercase();
    let comment = ["//", "/*", "*", "#", "--", ";"].iter().any(|sign| line.starts_with(sign));
    comment && CLAIMS.iter().any(|claim| line.contains(claim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_ours() {
        for path in
            ["src/ssh/src/lib.rs", "tests/lib.rs", "cluster/pause/pause.c", "cluster/lib/build.sh", "LICENSE"]
        {
            assert_eq!(file(path, "//! Text.\n"), None, "{path}");
        }
        assert_eq!(file("LICENSE", "# Copyright"), None);
    }

    #[test]
    fn a_folder_for_code_of_others_is_reported() {
        for path in ["vendor/russh/README.md", "src/ssh/third_party/a.rs", "cluster/tools/vendor/modules.txt"]
        {
            assert!(file(path, "").is_some(), "{path}");
        }
        assert_eq!(file("docs/vendor.md", ""), None);
    }

    #[test]
    fn a_program_outside_of_its_rooms_is_reported() {
        for path in ["russh/src/lib.rs", "src/host/src/a.c", "make/tool.py", "docs/upstream/new.rs"] {
            assert!(file(path, "").is_some(), "{path}");
        }
    }

    #[test]
    fn patches_are_where_their_reasons_are_and_not_many() {
        assert_eq!(file("docs/upstream/russh-1-a.patch", "--- a/src/msg.rs\n"), None);
        assert!(file("src/ssh/russh.patch", "").is_some());
        assert_eq!(too_long(MOST_PATCH_LINES), None);
        assert!(too_long(MOST_PATCH_LINES + 1).is_some());
    }

    #[test]
    fn a_file_that_says_whose_it_is_is_reported() {
        let theirs = "// Copyright 2016 Somebody\n//\n// Licensed under the Apache License\n";
        assert_eq!(
            file("src/ssh/src/msg.rs", theirs).as_deref(),
            Some("src/ssh/src/msg.rs:1 says whose it is (// Copyright 2016 Somebody): not ours")
        );
        assert!(file("cluster/up", "#!/bin/sh\n# SPDX-License-Identifier: MIT\n").is_some());
        assert_eq!(file("src/a.rs", "let copyright = 1;\n"), None, "not a comment");
        assert_eq!(
            file("src/a.rs", &format!("{}// Copyright\n", "\n".repeat(HEAD))),
            None,
            "not at its head"
        );
    }
}
