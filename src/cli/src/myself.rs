//! This program with the cluster that is meant, as a command line that others run.

use std::env::{home_dir, join_paths, split_paths, var_os};
use std::ffi::OsString;
use std::path::{Path, PathBuf, absolute};

use kube::config::{Kubeconfig, KubeconfigError};
use spark_client::ConnectOptions;

use crate::errors::CliError;

/// Sets a variable for a program. OpenSSH runs some commands without a shell, and only by their full path.
const ENV: &str = "/usr/bin/env";
const KUBECONFIG: &str = "KUBECONFIG";

/// This program with the cluster that is meant, as a command line.
#[derive(Clone, Debug)]
pub struct Myself {
    words: Vec<String>,
    context: Option<String>,
}

impl Myself {
    /// For a program that this one starts, and that has the same environment.
    pub fn here(options: &ConnectOptions) -> Result<Self, CliError> {
        let files = options.kubeconfig.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(&std::env::current_exe()?, &files, options.context.clone(), options.namespace.clone()))
    }

    /// For whatever program, whenever: it reaches the cluster and the namespace that are reached now.
    pub fn anywhere(options: &ConnectOptions, namespace: &str) -> Result<Self, CliError> {
        let files = files(options.kubeconfig.as_deref(), var_os(KUBECONFIG), home_dir())?;
        match context(&files, options.context.clone()) {
            Some(context) => {
                Ok(Self::of(&std::env::current_exe()?, &files, Some(context), Some(namespace.into())))
            }
            // In a cluster it is the service account that counts.
            None => Self::here(options),
        }
    }

    pub(crate) fn of(
        program: &Path,
        files: &[PathBuf],
        context: Option<String>,
        namespace: Option<String>,
    ) -> Self {
        let program = program.to_string_lossy().into_owned();
        let mut words = match files {
            [] => vec![program],
            [file] => vec![program, "--kubeconfig".into(), file.to_string_lossy().into_owned()],
            // The option takes no list.
            all => vec![ENV.into(), format!("{KUBECONFIG}={}", list(all)), program],
        };
        let options = [("--context", &context), ("--namespace", &namespace)];
        for (name, value) in options.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            words.extend([name.to_owned(), value.clone()]);
        }
        Self { words, context }
    }

    /// The context of the kubeconfig that it names.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// A verb of it with these options, as `ssh_config` wants a command: quoted for the shell, `%` doubled. `host` is left
    /// as it is.
    pub fn command(&self, verb: &str, options: &[String], host: &str) -> String {
        let quote = |words: &[String]| words.iter().map(|word| quoted(word) + " ").collect::<String>();
        format!("{}{verb} {}{host}", quote(&self.words), quote(options))
    }
}

/// The files of the kubeconfig that is used, where there is one, by their full paths.
fn files(
    option: Option<&Path>,
    variable: Option<OsString>,
    home: Option<PathBuf>,
) -> std::io::Result<Vec<PathBuf>> {
    let listed = variable.iter().flat_map(split_paths).filter(|path| !path.as_os_str().is_empty());
    let named: Vec<PathBuf> = option.map_or_else(|| listed.collect(), |file| vec![file.into()]);
    let default = home.filter(|_| named.is_empty()).map(|home| home.join(".kube/config"));
    named.into_iter().chain(default).map(absolute).collect()
}

fn list(files: &[PathBuf]) -> String {
    // They come out of such a list.
    join_paths(files).unwrap_or_default().to_string_lossy().into_owned()
}

/// The context that is used of these files; none where they can't be, and so aren't.
fn context(files: &[PathBuf], wanted: Option<String>) -> Option<String> {
    let read = |all: Kubeconfig, file: &PathBuf| all.merge(Kubeconfig::read_from(file)?);
    let all: Result<_, KubeconfigError> = files.iter().try_fold(Kubeconfig::default(), read);
    let all = all.ok()?;
    let context = wanted.or(all.current_context)?;
    all.contexts.iter().any(|known| known.name == context).then_some(context)
}

/// A word for a POSIX shell, in an option in which ssh replaces `%`.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@+,".contains(c);
    let doubled = word.replace('%', "%%");
    if !word.is_empty() && word.chars().all(plain) {
        doubled
    } else {
        format!("'{}'", doubled.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn command(files: &[&str], context: Option<&str>, namespace: Option<&str>) -> String {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let [context, namespace] = [context, namespace].map(|text| text.map(str::to_owned));
        Myself::of("/usr/bin/spark".as_ref(), &files, context, namespace).command("ssh-proxy", &[], "%n")
    }

    #[test]
    fn the_cluster_that_was_named_is_reached_whatever_its_name() {
        let expected = r"/usr/bin/spark --kubeconfig '/a b/100%%'\''s' --context dev ssh-proxy %n";
        assert_eq!(command(&["/a b/100%'s"], Some("dev"), None), expected);
    }

    #[test]
    fn of_several_files_all_are_named_and_the_program_still_by_its_full_path() {
        let expected =
            "/usr/bin/env 'KUBECONFIG=/a b:/c' /usr/bin/spark --context x --namespace team-a ssh-proxy %n";
        assert_eq!(command(&["/a b", "/c"], Some("x"), Some("team-a")), expected);
    }

    #[test]
    fn the_option_comes_before_the_variable_and_that_before_the_home() {
        let of = |option: Option<&str>, variable: Option<&str>| {
            files(option.map(Path::new), variable.map(Into::into), Some("/home/me".into())).unwrap()
        };
        assert_eq!(of(Some("/k"), Some("/a:/b")), [Path::new("/k")]);
        assert_eq!(of(None, Some("/a::/b")), [Path::new("/a"), Path::new("/b")]);
        for empty in [None, Some(""), Some(":")] {
            assert_eq!(of(None, empty), [Path::new("/home/me/.kube/config")], "{empty:?}");
        }
        assert!(files(None, None, None).unwrap().is_empty());
    }

    #[test]
    fn a_relative_path_is_told_from_where_it_was_meant() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(files(Some("./k".as_ref()), None, None).unwrap(), [here.join("k")]);
        assert_eq!(files(None, Some("k".into()), None).unwrap(), [here.join("k")]);
        let options = ConnectOptions { kubeconfig: Some("./k".into()), ..Default::default() };
        let expected = format!("--kubeconfig {} ", here.join("k").display());
        assert!(Myself::here(&options).unwrap().command("x", &[], "").contains(&expected));
    }

    /// A kubeconfig with a context of this name.
    fn kubeconfig(folder: &Path, name: &str, is_current: bool) -> PathBuf {
        let current = if is_current { format!("current-context: {name}\n") } else { String::new() };
        let file = folder.join(name);
        let text = format!("{current}contexts: [{{name: {name}, context: {{cluster: c, user: u}}}}]\n");
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn the_context_is_that_of_the_moment_if_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = [("a", false), ("b", true)].map(|(name, is)| kubeconfig(folder.path(), name, is));
        let of = |files: &[&PathBuf], wanted: Option<&str>| {
            let files: Vec<PathBuf> = files.iter().copied().cloned().collect();
            context(&files, wanted.map(str::to_owned))
        };
        assert_eq!(of(&[&a, &b], None).as_deref(), Some("b"));
        assert_eq!(of(&[&a, &b], Some("a")).as_deref(), Some("a"));
        for (files, wanted) in [(&[][..], None), (&[&a], None), (&[&b], Some("x"))] {
            assert_eq!(of(files, wanted), None, "{files:?} {wanted:?}");
        }
        assert_eq!(of(&[&folder.path().join("absent")], None), None);
    }

    #[test]
    fn what_is_pinned_stays_when_another_context_becomes_the_current_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = kubeconfig(folder.path(), "dev", true);
        let options = ConnectOptions { kubeconfig: Some(file.clone()), ..Default::default() };
        let myself = Myself::anywhere(&options, "team-a").unwrap();
        let expected = format!("--kubeconfig {} --context dev --namespace team-a x ", file.display());
        assert!(myself.command("x", &[], "").ends_with(&expected));
        assert_eq!(myself.context(), Some("dev"));
    }
}
