//! What may be written where, and how long a file may be.

use std::{fs, path::Path};

use anyhow::Context as _;

/// Lines that a file may have without its tests.
const MOST_LINES: usize = 500;

/// Rooms that may contain `unsafe`: they speak to the kernel.
const MAY_BE_UNSAFE: [&str; 2] = ["src/host/", "src/guest/"];

/// A crate whose names are used in these files alone.
const RUSSH: (&str, &str) = ("russh", "src/ssh/src/transport");

/// What would make a plan depend on more than its arguments.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "rand::",
];

/// All broken rules of the sources under `src/` and `tests/`, each as a sentence.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for room in ["src", "tests"] {
        walk(root, Path::new(room), &mut broken)?;
    }
    Ok(broken)
}

fn walk(root: &Path, folder: &Path, broken: &mut Vec<String>) -> anyhow::Result<()> {
    let entries = fs::read_dir(root.join(folder)).with_context(|| format!("reading {}", folder.display()))?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            walk(root, &path, broken)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(root.join(&path))
                .with_context(|| format!("reading {}", path.display()))?;
            broken.extend(file(&path.to_string_lossy(), &text));
        }
    }
    Ok(())
}

/// The broken rules of one file.
fn file(path: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let own = without_tests(text);
    if !is_test_file(path) && own.len() > MOST_LINES {
        broken.push(format!(
            "{path} has {} lines without its tests; at most {MOST_LINES}: give it a second file",
            own.len()
        ));
    }
    if path.starts_with("src/plan/") && !is_test_file(path) {
        for (number, line) in &own {
            for word in IMPURE.iter().filter(|w| has_word(code(line), w)) {
                broken.push(format!("{path}:{number} uses {word}: a plan is a function of its arguments"));
            }
        }
    }
    let (russh, home) = RUSSH;
    if !path.starts_with(home) {
        let name = format!("{russh}::");
        for (number, _) in (1..).zip(text.lines()).filter(|(_, line)| has_word(code(line), &name)) {
            broken.push(format!("{path}:{number} names {russh}: only {home} may"));
        }
    }
    if !MAY_BE_UNSAFE.iter().any(|room| path.starts_with(room)) {
        for (index, line) in text.lines().enumerate().filter(|(_, line)| is_unsafe(code(line))) {
            broken.push(format!(
                "{path}:{} is unsafe ({}): only {} may be",
                index + 1,
                line.trim(),
                MAY_BE_UNSAFE.join(" and ")
            ));
        }
    }
    broken
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
}

/// The numbered lines outside of `#[cfg(test)] mod … { … }`; rustfmt puts the closing brace at the column of the module.
fn without_tests(text: &str) -> Vec<(usize, &str)> {
    let mut lines = (1..).zip(text.lines());
    let mut kept = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line != "#[cfg(test)]" {
            kept.push((number, line));
            continue;
        }
        let first = lines.by_ref().map(|(_, l)| l).find(|l| !l.starts_with("#["));
        if first.is_some_and(|l| l.ends_with('{')) {
            lines.by_ref().find(|(_, l)| *l == "}");
        }
    }
    kept
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` is in `code` and not the end of a longer word.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

fn is_unsafe(code: &str) -> bool {
    // Assembled, or this file would break its own rule.
    ["{", "fn", "impl", "trait", "extern"].iter().any(|next| has_word(code, &format!("{} {next}", "unsafe")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count() {
        let text = "a\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    b\n}\nc\n#[cfg(test)]\nmod more;\nd\n";
        assert_eq!(without_tests(text), [(1, "a"), (7, "c"), (10, "d")]);
    }

    #[test]
    fn a_long_file_is_reported() {
        let long = "x\n".repeat(MOST_LINES + 1);
        assert_eq!(file("src/node/src/a.rs", &long).len(), 1);
        assert!(file("src/node/src/a_tests.rs", &long).is_empty());
        assert!(file("src/node/src/a.rs", &long[2..]).is_empty());
    }

    #[test]
    fn a_plan_that_reads_the_clock_is_reported() {
        let text = "let now = Timestamp::now();\n// Timestamp::now\nlet operand::x;\n#[cfg(test)]\nmod tests {\n    Timestamp::now();\n}\n";
        assert_eq!(
            file("src/plan/src/a.rs", text),
            ["src/plan/src/a.rs:1 uses Timestamp::now: a plan is a function of its arguments"]
        );
        assert!(file("src/node/src/a.rs", text).is_empty());
    }

    #[test]
    fn russh_is_named_in_the_transport_only() {
        let name = RUSSH.0;
        let text = format!("use {name}::client;\n// {name}::client\nlet error: my_{name}::Error;\n");
        assert_eq!(
            file("src/gateway/src/ssh/a.rs", &text),
            ["src/gateway/src/ssh/a.rs:1 names russh: only src/ssh/src/transport may"]
        );
        assert_eq!(file("src/guest/tests/a.rs", &text).len(), 1);
        assert!(file("src/ssh/src/transport/a.rs", &text).is_empty());
    }

    #[test]
    fn unsafe_code_is_allowed_in_host_and_guest_only() {
        let text = format!("{} {{ f() }}\n#![forbid(unsafe_code)]\n", "unsafe");
        assert_eq!(file("src/node/src/a.rs", &text).len(), 1);
        assert!(file("src/host/src/a.rs", &text).is_empty());
    }
}
