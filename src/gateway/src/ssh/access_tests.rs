#![allow(clippy::unwrap_used)]

use sparks_api::{Spark, SparkSpec, SparkStatus, SshStatus};
use sparks_ssh::transport::{
    PrivateKey,
    ssh_key::{
        certificate::{Builder, CertType},
        private::Ed25519Keypair,
    },
};

use super::{super::place::Name, *};

const NOW: u64 = 1_000_000;
const CA: u8 = 9;
const OTHER_CA: u8 = 8;

fn private(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn line(seed: u8) -> String {
    private(seed).public_key().to_openssh().unwrap()
}

fn key(seed: u8) -> Credential {
    Credential::Key(private(seed).public_key().clone())
}

fn entry(lines: &[String]) -> Entry {
    let mut spark = Spark::new("api", SparkSpec::default());
    spark.metadata.namespace = Some("team-a".into());
    let ssh = SshStatus { authorized_keys: lines.to_vec(), user: Some("dev".into()), ..Default::default() };
    spark.status = Some(SparkStatus { ssh: Some(ssh), ..Default::default() });
    Entry::new(spark, None)
}

fn place(name: &str) -> Place {
    match super::super::place::name(name, None) {
        Name::Spark(place) => place,
        other => panic!("{name}: {other:?}"),
    }
}

fn certificate(authority: u8, principals: &[&str], change: impl FnOnce(&mut Builder)) -> Credential {
    let key = private(2).public_key().key_data().clone();
    let mut builder = Builder::new(vec![7; 32], key, NOW - 100, NOW + 100).unwrap();
    builder.cert_type(CertType::User).unwrap();
    builder.key_id("alice").unwrap();
    for principal in principals {
        builder.valid_principal(*principal).unwrap();
    }
    change(&mut builder);
    Credential::Certificate(Box::new(builder.sign(&private(authority)).unwrap()))
}

fn try_at(name: &str, lines: &[String], credential: &Credential) -> Result<Granted, Refusal> {
    let authorities = [private(CA).public_key().clone()];
    let circumstances =
        Circumstances { authorities: &authorities, now: NOW, peer: "192.0.2.1".parse().unwrap() };
    admit(&place(name), Some(&entry(lines)), credential, circumstances)
}

#[test]
fn a_key_enters_the_sparks_that_have_it_and_no_other() {
    let lines = [line(3), format!("no-pty {} alice@laptop", line(1))];
    let granted = try_at("api.team-a", &lines, &key(1)).unwrap();
    assert!(
        !granted.permissions.pty
            && granted.who.starts_with("SHA256:")
            && granted.who.ends_with(" alice@laptop")
    );
    assert_eq!(try_at("api.team-a", &lines, &key(4)), Err(Refusal::UnknownKey));
    let circumstances = Circumstances { authorities: &[], now: NOW, peer: "192.0.2.1".parse().unwrap() };
    assert_eq!(admit(&place("api.team-a"), None, &key(1), circumstances), Err(Refusal::NoSpark));
}

#[test]
fn a_line_that_denies_leaves_the_choice_to_a_later_one() {
    let elsewhere = format!("from=\"10.0.0.0/8\" {}", line(1));
    assert!(matches!(
        try_at("api.team-a", std::slice::from_ref(&elsewhere), &key(1)),
        Err(Refusal::Denied(_))
    ));
    assert!(try_at("api.team-a", &[elsewhere, line(1)], &key(1)).is_ok());
}

#[test]
fn an_authority_does_not_enter_with_its_own_key() {
    let lines = [format!("cert-authority {}", line(1))];
    assert_eq!(try_at("api.team-a", &lines, &key(1)), Err(Refusal::UnknownKey));
}

#[test]
fn a_certificate_of_the_installation_enters_where_its_principals_say() {
    for (principal, name, enters) in [
        ("api.team-a", "api.team-a", true),
        ("api.team-a", "root+api.team-a", true),
        ("*.team-a", "api.team-a", true),
        ("*", "api.team-a", true),
        ("root+api.team-a", "root+api.team-a", true),
        ("root+api.team-a", "api.team-a", false),
        ("dev+*.team-a", "api.team-a", true),
        ("dev+*", "root+api.team-a", false),
        ("web.team-a", "api.team-a", false),
        ("*.team-b", "api.team-a", false),
        ("dev", "api.team-a", false),
        ("api", "api.team-a", false),
        ("", "api.team-a", false),
    ] {
        let result = try_at(name, &[], &certificate(CA, &[principal], |_| {}));
        assert_eq!(result.is_ok(), enters, "{principal} at {name}: {result:?}");
    }
    let nobodys = certificate(CA, &[], |builder| drop(builder.all_principals_valid()));
    assert!(matches!(try_at("api.team-a", &[], &nobodys), Err(Refusal::Denied(_))), "OpenSSH refuses it too");
}

#[test]
fn a_certificate_of_another_authority_enters_nowhere() {
    let refusal = try_at("api.team-a", &[], &certificate(OTHER_CA, &["*"], |_| {}));
    assert_eq!(refusal, Err(Refusal::UnknownAuthority));
}

#[test]
fn the_authority_of_a_spark_lets_its_users_in_by_their_names_or_as_the_line_says() {
    let any = [format!("cert-authority {}", line(OTHER_CA))];
    let only_ops = [format!("cert-authority,principals=\"ops\" {}", line(OTHER_CA))];
    for (lines, principal, name, enters) in [
        (&any, "dev", "api.team-a", true),
        (&any, "root", "api.team-a", false),
        (&any, "root", "root+api.team-a", true),
        (&any, "api.team-a", "api.team-a", true),
        (&only_ops, "ops", "api.team-a", true),
        (&only_ops, "dev", "api.team-a", false),
    ] {
        let result = try_at(name, lines, &certificate(OTHER_CA, &[principal], |_| {}));
        assert_eq!(result.is_ok(), enters, "{principal} at {name}: {result:?}");
    }
}

#[test]
fn what_a_certificate_demands_is_granted_and_nothing_more() {
    let forced = certificate(CA, &["*"], |builder| {
        builder.critical_option("force-command", "uptime").unwrap();
        builder.extension("permit-pty", "").unwrap();
    });
    let granted = try_at("api.team-a", &[], &forced).unwrap();
    assert_eq!(granted.permissions.force_command.as_deref(), Some("uptime"));
    assert!(granted.permissions.pty && !granted.permissions.port_forwarding);
    assert!(granted.who.ends_with(" alice"));
    let elsewhere = certificate(CA, &["*"], |builder| {
        builder.critical_option("source-address", "10.0.0.0/8").unwrap();
    });
    assert!(matches!(try_at("api.team-a", &[], &elsewhere), Err(Refusal::Denied(_))));
}

#[test]
fn a_comment_can_not_write_to_the_terminal_of_who_reads_the_log() {
    assert_eq!(who("SHA256:x", "a\u{1b}[2Jb\n"), "SHA256:x a[2Jb");
    assert_eq!(who("SHA256:x", ""), "SHA256:x");
}
