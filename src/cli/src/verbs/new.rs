//! `spark new`.

use std::time::Instant;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use spark_client::Condition;
use sparks_api::{Disk, EnvSource, EnvVar, Lifecycle, Resources, Service, SparkSpec, Ssh, VolumeMount};

use crate::cli::{OutputArgs, WaitArgs};
use crate::context::Context;
use crate::errors::Outcome;
use crate::parse::{self, SshKeys};
use crate::{human, output};

/// Create a Spark from an OCI image.
///
/// COMMAND is its service: it runs as long as the Spark does, and is expected to listen on --port. Without one the
/// Spark simply runs, and `spark exec` opens a shell in it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Spark, which is its host name as well
    #[arg(value_parser = parse::name)]
    pub name: String,
    /// OCI image of the root filesystem
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// Most bytes of its own that the root disk may hold [default: 20Gi]
    #[arg(long, value_name = "SIZE", value_parser = parse::quantity)]
    pub disk: Option<Quantity>,
    /// Most CPUs that it may use
    #[arg(long, value_name = "CPUS", value_parser = parse::quantity)]
    pub cpu: Option<Quantity>,
    /// Most memory that it may use
    #[arg(long, value_name = "SIZE", value_parser = parse::quantity)]
    pub memory: Option<Quantity>,
    /// A further disk and where it is mounted; can be repeated
    #[arg(long = "volume", value_name = "NAME:/PATH[:SIZE]", value_parser = parse::volume)]
    pub volumes: Vec<VolumeMount>,
    /// Time after which it is deleted, such as 72h
    #[arg(long, value_name = "DURATION", value_parser = parse::duration_text)]
    pub ttl: Option<String>,
    /// Idle time after which it sleeps until the next SSH or HTTP, such as 15m
    #[arg(long, value_name = "DURATION", value_parser = parse::duration_text)]
    pub idle_timeout: Option<String>,
    /// Public key that may enter by SSH: a file such as ~/.ssh/id_ed25519.pub, or the key itself; can be repeated
    #[arg(long = "ssh-key", value_name = "FILE|KEY", value_parser = parse::ssh_key)]
    pub ssh_keys: Vec<SshKeys>,
    /// Environment variable of the service; can be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse::env, requires = "command")]
    pub env: Vec<EnvVar>,
    /// Secret or ConfigMap whose keys become environment variables of the service; can be repeated
    #[arg(long = "env-from", value_name = "secret/NAME|configmap/NAME", value_parser = parse::env_from, requires = "command")]
    pub env_from: Vec<EnvSource>,
    /// Port on which the service listens
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..), requires = "command")]
    pub port: u16,
    /// HTTP path that answers when the service is ready
    #[arg(long, value_name = "PATH", requires = "command")]
    pub readiness_path: Option<String>,
    /// Let everybody reach the service through the gateway
    #[arg(long, requires = "command")]
    pub public: bool,
    /// User of the service
    #[arg(short, long, value_name = "USER", requires = "command")]
    pub user: Option<String>,
    /// Working directory of the service
    #[arg(short, long, value_name = "DIR", requires = "command")]
    pub workdir: Option<String>,
    /// Whether to wait
    #[command(flatten)]
    pub wait: WaitArgs,
    /// How to print it
    #[command(flatten)]
    pub output: OutputArgs,
    /// The service: program and arguments, not interpreted by a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl Args {
    fn spec(self) -> SparkSpec {
        let limits = [("cpu", self.cpu), ("memory", self.memory)];
        let limits = limits.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?)));
        let limits =
            some(limits.collect::<std::collections::BTreeMap<_, _>>(), std::collections::BTreeMap::is_empty);
        let service = Service {
            command: self.command,
            user: self.user,
            working_dir: self.workdir,
            env: some(self.env, Vec::is_empty),
            env_from: some(self.env_from, Vec::is_empty),
            port: self.port.into(),
            readiness_path: self.readiness_path,
            public: self.public,
            // The default of the API.
            termination_grace_period_seconds: 10,
        };
        let keys: Vec<String> = self.ssh_keys.into_iter().flat_map(|keys| keys.0).collect();
        SparkSpec {
            image: Some(self.image),
            disk: self.disk.map(|size| Disk { size }),
            resources: limits.map(|limits| Resources { requests: None, limits: Some(limits) }),
            volumes: some(self.volumes, Vec::is_empty),
            service: (!service.command.is_empty()).then_some(service),
            ssh: (!keys.is_empty()).then(|| Ssh { authorized_keys: Some(keys), ..Default::default() }),
            lifecycle: Lifecycle { running: true, ttl: self.ttl, idle_timeout: self.idle_timeout },
            ..Default::default()
        }
    }
}

fn some<T>(value: T, is_empty: impl Fn(&T) -> bool) -> Option<T> {
    (!is_empty(&value)).then_some(value)
}

/// Creates the Spark.
pub async fn run(context: &Context, args: Args) -> Outcome {
    let (name, image) = (args.name.clone(), args.image.clone());
    let (wait, format) = (args.wait.clone(), args.output.format);
    let start = Instant::now();
    let mut spark = context.sparks.create(&name, args.spec()).await?;
    if !wait.no_wait {
        spark = context.wait(&name, Condition::Ready, &wait).await?;
    }
    match format {
        Some(format) => output::object(format, &spark)?,
        None if context.quiet => output::line(&spark.name_any())?,
        None if wait.no_wait => output::line(&format!("spark/{name} created from {image}; it is starting"))?,
        None => {
            output::line(&format!("spark/{name} created from {image} in {}", human::took(start.elapsed())))?
        }
    }
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn spec(words: &[&str]) -> Result<SparkSpec, clap::Error> {
        let words = ["new", "x", "--image", "debian"].iter().chain(words);
        Line::try_parse_from(words).map(|line| line.args.spec())
    }

    #[test]
    fn what_is_not_said_is_left_to_the_defaults_of_the_api() {
        assert_eq!(spec(&[]).unwrap(), SparkSpec { image: Some("debian".into()), ..Default::default() });
    }

    #[test]
    fn everything_after_two_dashes_is_the_service() {
        let got = spec(&["--cpu", "2", "--port", "80", "-e", "A=b", "--", "ls", "--port", "1"]).unwrap();
        let service = got.service.unwrap();
        assert_eq!((service.command, service.port), (vec!["ls".into(), "--port".into(), "1".into()], 80));
        assert_eq!(got.resources.unwrap().limits.unwrap()["cpu"].0, "2");
    }

    #[test]
    fn options_of_a_service_need_a_service() {
        assert!(spec(&["-e", "A=b"]).is_err());
        assert!(spec(&["--readiness-path", "/"]).is_err());
    }
}
