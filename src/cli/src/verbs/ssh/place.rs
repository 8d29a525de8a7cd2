//! Where OpenSSH's programs are to go.

use sparks_api::Spark;

use super::refuse_unrecorded;
use crate::context::Context;
use crate::errors::CliError;
use crate::openssh;

/// `[USER@]NAME[.NAMESPACE][.spark]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who is to be logged in.
    pub user: Option<String>,
    name: String,
    namespace: Option<String>,
}

impl Place {
    /// Reads it as ssh does: the user ends at the last @.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (user, host) = match text.rsplit_once('@') {
            Some(("", _)) => return Err("there is no user before the @".into()),
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, text),
        };
        let (name, namespace) = openssh::host(host)?;
        Ok(Self { user, name, namespace })
    }

    /// The host, as ssh is told.
    pub fn host(&self) -> String {
        self.namespace.as_ref().map_or_else(|| self.name.clone(), |place| format!("{}.{place}", self.name))
    }

    /// The Spark, if it may be entered without the gateway's recorder.
    pub async fn find(&self, context: &Context) -> Result<Spark, CliError> {
        let sparks = context.in_namespace(self.namespace.clone()).sparks;
        let spark = sparks.get(&self.name).await?;
        refuse_unrecorded(&spark, &sparks)?;
        Ok(spark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_spark_and_maybe_who_and_where() {
        let of = |user: Option<&str>, namespace: Option<&str>| {
            let [user, namespace] = [user, namespace].map(|part| part.map(str::to_owned));
            Ok(Place { user, name: "api".into(), namespace })
        };
        assert_eq!(Place::parse("api"), of(None, None));
        assert_eq!(Place::parse("root@api.spark"), of(Some("root"), None));
        assert_eq!(Place::parse("a@b@api.team-a.spark"), of(Some("a@b"), Some("team-a")));
        for wrong in ["", "@api", "api@", "-oProxyCommand=x", "a.b.c"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ssh_is_told_the_namespace_only_where_one_was_named() {
        let host = |text| Place::parse(text).map(|place| place.host());
        assert_eq!(host("me@api.spark"), Ok("api".into()));
        assert_eq!(host("api.team-a"), Ok("api.team-a".into()));
    }
}
