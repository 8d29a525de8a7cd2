//! Where somebody wants to go: what the user name of a login and the host of a jump say.
//!
//! `SPARK.NAMESPACE`, `USER+SPARK.NAMESPACE`, and both without `.NAMESPACE` where the installation has a default one.
//! Names are checked here, before anything is looked up with them.

use crate::directory::Key;

/// User name that always means the jump host, for those whose own name is that of a Spark or has a dot.
pub const JUMP: &str = "jump";

/// A Spark, and a user in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The Spark.
    pub spark: Key,
    /// The user; the Spark's default one when empty.
    pub user: Option<String>,
}

/// What a user name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A Spark, and nothing else that it could mean.
    Spark(Place),
    /// One word: a Spark in the default namespace if there is one of that name, else somebody's own name, who wants to
    /// jump.
    Word(Option<Place>),
    /// The jump host.
    Jump,
    /// Nothing.
    Invalid,
}

/// Reads the user name of a login.
#[must_use]
pub fn name(text: &str, default_namespace: Option<&str>) -> Name {
    if text == JUMP {
        return Name::Jump;
    }
    let (user, rest) = match text.split_once('+') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    if user.is_some_and(|user| !is_user(user)) {
        return Name::Invalid;
    }
    let place = |spark: Key| Place { spark, user: user.map(Into::into) };
    match (rest.split_once('.'), default_namespace, user) {
        (Some((name, namespace)), ..) => spark(name, namespace).map(place).map_or(Name::Invalid, Name::Spark),
        (None, Some(namespace), Some(_)) => {
            spark(rest, namespace).map(place).map_or(Name::Invalid, Name::Spark)
        }
        (None, None, Some(_)) => Name::Invalid,
        (None, namespace, None) if is_user(rest) => {
            Name::Word(namespace.and_then(|namespace| spark(rest, namespace)).map(place))
        }
        (None, ..) => Name::Invalid,
    }
}

/// Reads the host of a jump: `SPARK.NAMESPACE` and whatever follows it, or a Spark of the default namespace.
#[must_use]
pub fn host(text: &str, default_namespace: Option<&str>) -> Option<Key> {
    let mut labels = text.split('.');
    let name = labels.next()?;
    spark(name, labels.next().or(default_namespace)?)
}

fn spark(name: &str, namespace: &str) -> Option<Key> {
    (is_label(name, 50) && is_label(namespace, 63)).then(|| Key::new(namespace, name))
}

/// A label of RFC 1123, which names of namespaces are; those of Sparks are a little stricter.
fn is_label(text: &str, most: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=most).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What `useradd` takes, and capital letters.
fn is_user(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=32).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(spark: &str, namespace: &str, user: Option<&str>) -> Place {
        Place { spark: Key::new(namespace, spark), user: user.map(Into::into) }
    }

    #[test]
    fn a_name_with_a_dot_is_a_spark_and_its_namespace() {
        assert_eq!(name("api.team-a", None), Name::Spark(place("api", "team-a", None)));
        assert_eq!(name("api.team-a", Some("x")), Name::Spark(place("api", "team-a", None)));
        assert_eq!(name("dev+api.team-a", None), Name::Spark(place("api", "team-a", Some("dev"))));
    }

    #[test]
    fn one_word_is_a_spark_of_the_default_namespace_or_somebodys_own_name() {
        assert_eq!(name("api", Some("dev")), Name::Word(Some(place("api", "dev", None))));
        assert_eq!(name("api", None), Name::Word(None));
        assert_eq!(name("Alice_1", Some("dev")), Name::Word(None), "no Spark is called so");
        assert_eq!(name("root+api", Some("dev")), Name::Spark(place("api", "dev", Some("root"))));
        assert_eq!(name("root+api", None), Name::Invalid);
        assert_eq!(name("jump", Some("dev")), Name::Jump);
    }

    #[test]
    fn strange_names_are_nothing() {
        let long = "a".repeat(64);
        let names = [
            "",
            ".",
            "+",
            "api.",
            ".team",
            "api.team.a",
            "API.team",
            "-api.team",
            "api-.team",
            "api.team\0",
            "a b.team",
            "../../etc",
            "+api.team",
            "a+b+c.team",
            "api.team/x",
            "ä.team",
            "-x",
            "x\n",
            &long,
            &format!("{long}.team"),
            &format!("api.{long}"),
            &format!("{long}+api.team"),
        ];
        for text in names {
            assert_eq!(name(text, Some("dev")), Name::Invalid, "{text:?}");
        }
    }

    #[test]
    fn a_host_is_a_spark_and_its_namespace_whatever_follows() {
        for text in ["api.team-a", "api.team-a.spark", "api.team-a.svc.cluster.local", "api.team-a."] {
            assert_eq!(host(text, None), Some(Key::new("team-a", "api")), "{text}");
        }
        assert_eq!(host("api", Some("dev")), Some(Key::new("dev", "api")));
        for text in ["api", "", ".", "10.0.0.1.", "a..b", "[::1]", "::1", "localhost", "API.team"] {
            let found = host(text, None);
            assert!(found.is_none() || text.starts_with("10"), "{text}: {found:?}");
        }
    }
}
