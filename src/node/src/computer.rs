//! From what a Volume's attachment says to what its guest is told.

use sparks_api::Attachment;
use sparks_proto::{Computer, Service};

/// The computer that this attachment describes. `sealed` is what came out of the sealed environment; `service.env`
/// comes after it, because the later entry wins.
pub fn computer(attachment: &Attachment, sealed: Vec<(String, String)>) -> Computer {
    let service = attachment.service.as_ref().map(|service| Service {
        command: service.command.clone(),
        user: service.user.clone(),
        working_dir: service.working_dir.clone(),
        env: sealed
            .into_iter()
            .chain(service.env.iter().flatten().map(|var| (var.name.clone(), var.value.clone())))
            .collect(),
        port: u16::try_from(service.port).unwrap_or(8080),
        readiness_path: service.readiness_path.clone(),
        grace_seconds: u32::try_from(service.termination_grace_period_seconds).unwrap_or(10),
    });
    Computer { hostname: attachment.hostname.clone(), service }
}

#[cfg(test)]
mod tests {
    use sparks_api::EnvVar;

    use super::*;

    #[test]
    fn the_services_own_environment_wins_over_the_sealed_one() {
        let env = Some(vec![EnvVar { name: "A".into(), value: "mine".into() }]);
        let service =
            sparks_api::Service { command: vec!["x".into()], env, port: 8080, ..Default::default() };
        let attachment = Attachment { service: Some(service), ..Default::default() };
        let env = computer(&attachment, vec![("A".into(), "sealed".into())]).service.map(|s| s.env);
        assert_eq!(env, Some(vec![("A".into(), "sealed".into()), ("A".into(), "mine".into())]));
    }
}
