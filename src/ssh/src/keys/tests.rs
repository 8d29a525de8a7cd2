#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use super::*;
use crate::transport::{
    Certificate, PrivateKey, PublicKey,
    ssh_key::{
        certificate::{Builder, CertType},
        private::{Ed25519Keypair, KeypairData},
    },
};

const NOW: u64 = 1_000_000;

fn private(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "c").unwrap()
}

fn public(seed: u8) -> String {
    private(seed).public_key().to_openssh().unwrap()
}

fn line(options: &str) -> Result<AuthorizedKey, LineError> {
    parse(&format!("{options} {}", public(1))).next().unwrap().1
}

fn peer(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn certificate(build: impl FnOnce(&mut Builder)) -> Certificate {
    certificate_of(CertType::User, build)
}

fn certificate_of(kind: CertType, build: impl FnOnce(&mut Builder)) -> Certificate {
    let key = private(2).public_key().key_data().clone();
    let mut builder = Builder::new(vec![7; 32], key, NOW - 100, NOW + 100).unwrap();
    builder.cert_type(kind).unwrap();
    build(&mut builder);
    builder.sign(&private(9)).unwrap()
}

fn principal(builder: &mut Builder, name: &str) {
    builder.valid_principal(name).unwrap();
}

fn check(certificate: &Certificate, peer_address: &str) -> Result<Permissions, Denied> {
    let authorities = [private(9).public_key().clone()];
    check_certificate(certificate, &authorities, &["api.team-a"], NOW, peer(peer_address))
}

#[test]
fn lines_are_found_among_comments_with_their_numbers() {
    let text = format!("# keys\n\n{} \n  no-pty {}\nnot a key\n", public(1), public(2));
    let all: Vec<_> = parse(&text).collect();
    assert_eq!(
        all.iter().map(|(n, key)| (*n, key.is_ok())).collect::<Vec<_>>(),
        [(3, true), (4, true), (5, false)]
    );
    let first = all[0].1.as_ref().unwrap();
    assert!(first.is(private(1).public_key()) && !first.is(private(2).public_key()));
    assert_eq!((first.comment.as_str(), first.options.permissions.clone()), ("c", Permissions::all()));
}

#[test]
fn options_forbid_what_they_name_in_the_order_in_which_they_stand() {
    let permissions = |options| line(options).unwrap().options.permissions;
    assert!(!permissions("no-pty").pty && permissions("no-pty").x11);
    let restricted = permissions("restrict,pty,command=\"echo \\\"a, b\\\"\"");
    assert!(restricted.pty && !restricted.port_forwarding && !restricted.agent_forwarding && !restricted.x11);
    assert_eq!(restricted.force_command.as_deref(), Some("echo \"a, b\""));
    assert!(!permissions("pty,restrict").pty);
    assert_eq!(permissions("environment=\"A=b=c\"").environment, [("A".into(), "b=c".into())]);
}

#[test]
fn a_line_with_an_option_that_is_not_understood_opens_nothing() {
    for options in [
        "tunnel=\"0\"",
        "restrict=\"1\"",
        "command",
        "command=x",
        "no-restrict",
        "from=\"\"",
        "expiry-time=\"soon\"",
        "permitopen=\"a\"",
        "command=\"x",
        "verify-required",
        "environment=\"=b\"",
        "environment=\"A B=c\"",
        "command=\"a\"\",no-pty\"",
        // The second backslash escapes the quote, so that the value goes on.
        "command=\"a\\\\\",no-pty",
    ] {
        assert!(line(options).is_err(), "{options}");
    }
}

#[test]
fn an_option_that_would_overrule_an_earlier_one_of_its_name_opens_nothing() {
    for (name, value) in [("command", "id"), ("from", "10.0.0.1"), ("principals", "dev")] {
        let options = format!("cert-authority,{name}=\"{value}\",{}=\"{value}\"", name.to_uppercase());
        assert_eq!(line(&options), Err(LineError::Twice(name.into())));
    }
    // These have always more to say, and of these two sshd takes the earlier one.
    let options = line(
        "expiry-time=\"20300101\",expiry-time=\"19700112\",expiry-time=\"20310101\",\
         environment=\"A=first\",environment=\"A=second\",permitopen=\"a:1\",permitopen=\"b:2\"",
    );
    let permissions = options.unwrap().options.permissions;
    assert_eq!(permissions.expires, Some(950_400));
    assert_eq!(permissions.environment, [("A".into(), "first".into())]);
    assert!(permissions.may_open("a", 1) && permissions.may_open("b", 2));
}

#[test]
fn an_authority_whose_certificates_may_name_nobody_is_none_for_the_user() {
    for list in ["", ",", " , "] {
        assert_eq!(line(&format!("cert-authority,principals=\"{list}\"")), Err(LineError::NoPrincipal));
    }
    assert_eq!(line("principals=\"dev\""), Err(LineError::PrincipalsOfKey));
    assert!(line("principals=\"dev\",cert-authority").is_ok());
}

#[test]
fn a_bare_key_has_no_options() {
    let bare = parse(&public(1)).next().unwrap().1.unwrap().bare();
    assert_eq!(bare.as_ref().map(PublicKey::key_data), Ok(private(1).public_key().key_data()));
    for options in ["from=\"10.0.0.0/8\"", "cert-authority", "no-pty", "cert-authority,principals=\"dev\""] {
        assert_eq!(line(options).unwrap().bare(), Err(LineError::NotBare), "{options}");
    }
}

#[test]
fn a_key_is_good_only_from_the_addresses_it_names() {
    let may = |from: &str, address: &str| {
        line(&format!("from=\"{from}\"")).unwrap().check(NOW, peer(address)) == Ok(Permissions::all())
    };
    for (from, address, expected) in [
        ("10.0.0.0/8", "10.1.2.3", true),
        ("10.0.0.0/8", "11.1.2.3", false),
        ("10.0.0.0/8,!10.1.0.0/16", "10.1.2.3", false),
        ("10.*,192.0.2.?", "192.0.2.7", true),
        ("10.*,192.0.2.?", "192.0.2.77", false),
        ("10.0.0.1", "::ffff:10.0.0.1", true),
        ("2001:db8::/32", "2001:db8::1", true),
        ("!10.0.0.1", "10.0.0.2", false),
        ("host.example", "10.0.0.1", false),
    ] {
        assert_eq!(may(from, address), expected, "{from} {address}");
    }
}

#[test]
fn a_key_expires_at_its_moment_in_utc() {
    let key = line("expiry-time=\"197001121346Z\"").unwrap();
    // 1970-01-12T13:46:00Z
    assert_eq!(key.options.permissions.expires, Some(999_960));
    assert!(key.check(999_959, peer("::1")).is_ok());
    assert_eq!(key.check(999_960, peer("::1")), Err(Denied::Expired));
}

#[test]
fn forwarding_goes_where_it_is_permitted() {
    let permissions = line("permitopen=\"db:5432\",permitopen=\"[::1]:*\",permitlisten=\"8080\"")
        .unwrap()
        .options
        .permissions;
    assert!(permissions.may_open("db", 5432) && permissions.may_open("::1", 1));
    assert!(!permissions.may_open("db", 5433) && !permissions.may_open("other", 5432));
    assert!(permissions.may_listen("localhost", 8080) && !permissions.may_listen("localhost", 8081));
    assert!(!Permissions::none().may_open("db", 1) && Permissions::all().may_listen("", 1));
}

#[test]
fn permissions_of_key_and_certificate_are_those_that_both_give() {
    let of = |options: &str| line(options).unwrap().options.permissions;
    let both = of("no-pty,permitopen=\"*:80\"").and(of("no-x11-forwarding,permitopen=\"db:*\"")).unwrap();
    assert!(!both.pty && !both.x11 && both.may_open("db", 80) && !both.may_open("db", 81));
    let nothing = of("permitopen=\"a:1\"").and(of("permitopen=\"b:1\"")).unwrap();
    assert!(!nothing.may_open("a", 1) && !nothing.may_open("b", 1) && !nothing.may_open("c", 1));
    assert_eq!(of("command=\"a\"").and(of("command=\"b\"")), Err(Denied::TwoCommands));
}

#[test]
fn a_certificate_gives_what_its_extensions_say() {
    let cert = certificate(|builder| {
        builder.valid_principal("api.team-a").unwrap().extension("permit-pty", "").unwrap();
        builder.critical_option("force-command", "id").unwrap();
    });
    let permissions = check(&cert, "10.0.0.1").unwrap();
    assert!(permissions.pty && !permissions.port_forwarding);
    assert_eq!((permissions.force_command.as_deref(), permissions.expires), (Some("id"), Some(NOW + 100)));
}

#[test]
fn a_certificate_is_refused_for_each_of_its_faults() {
    let good = |builder: &mut Builder| principal(builder, "api.team-a");
    assert!(check(&certificate(good), "10.0.0.1").is_ok());
    let other = certificate(|builder| principal(builder, "other"));
    assert_eq!(check(&other, "10.0.0.1"), Err(Denied::Principal));
    let anybody = certificate(|builder| {
        builder.all_principals_valid().unwrap();
    });
    assert_eq!(check(&anybody, "10.0.0.1"), Err(Denied::Principal));
    let host = certificate_of(CertType::Host, good);
    assert_eq!(check(&host, "10.0.0.1"), Err(Denied::Kind));
    let unknown = certificate(|builder| {
        good(builder);
        builder.critical_option("verify-required", "").unwrap();
    });
    assert_eq!(check(&unknown, "10.0.0.1"), Err(Denied::CriticalOption("verify-required".into())));
    let near = certificate(|builder| {
        good(builder);
        builder.critical_option("source-address", "10.0.0.0/8,192.0.2.1").unwrap();
    });
    assert!(check(&near, "10.9.9.9").is_ok() && check(&near, "192.0.2.1").is_ok());
    assert_eq!(check(&near, "192.0.2.2"), Err(Denied::Address));
    let at = |now| {
        let authority = [private(9).public_key().clone()];
        check_certificate(&certificate(good), &authority, &["api.team-a"], now, peer("::1"))
    };
    assert_eq!((at(NOW - 101), at(NOW + 100)), (Err(Denied::NotYetValid), Err(Denied::Expired)));
    let stranger = [private(8).public_key().clone()];
    let by_nobody = check_certificate(&certificate(good), &stranger, &["api.team-a"], NOW, peer("::1"));
    assert_eq!(by_nobody, Err(Denied::Authority));
}

#[test]
fn a_certificate_of_the_installation_opens_sparks_and_never_a_user_name() {
    let opens = |name: &str| {
        let authorities = [private(9).public_key().clone()];
        let cert = certificate(|builder| principal(builder, name));
        let principals = spark_principals("api", "team-a", "root");
        let principals: Vec<_> = principals.iter().map(String::as_str).collect();
        check_certificate(&cert, &authorities, &principals, NOW, peer("::1")).is_ok()
    };
    for name in ["api.team-a", "*.team-a", "*", "root+api.team-a", "root+*.team-a", "root+*"] {
        assert!(opens(name), "{name}");
    }
    for name in
        ["root", "api", "team-a", "api.team-b", "db.team-a", "*.*", "api.*", "dev+api.team-a", "dev+*"]
    {
        assert!(!opens(name), "{name}");
    }
}

#[test]
fn a_line_of_an_authority_lets_its_certificates_in_and_no_key() {
    let authority =
        parse(&format!("cert-authority,principals=\"ops, dev\" {}", public(9))).next().unwrap().1.unwrap();
    let dev = certificate(|builder| {
        principal(builder, "dev");
        builder.extension("permit-pty", "").unwrap();
    });
    assert!(authority.check_certificate(&dev, &["root"], NOW, peer("::1")).unwrap().pty);
    assert!(!authority.is(private(9).public_key()));
    let plain = line("no-pty").unwrap();
    assert_eq!(plain.check_certificate(&dev, &["dev"], NOW, peer("::1")), Err(Denied::Authority));
}

#[test]
fn an_address_to_listen_on_may_be_a_pattern_and_one_to_connect_to_may_not() {
    let permissions =
        line("permitlisten=\"*.local:*\",permitopen=\"*.local:*\"").unwrap().options.permissions;
    assert!(permissions.may_listen("A.Local", 1) && !permissions.may_listen("a.remote", 1));
    assert!(permissions.may_open("*.local", 1) && !permissions.may_open("a.local", 1));
}

#[test]
fn a_certificate_signed_with_sha_1_is_refused() {
    let bytes = certificate(|builder| principal(builder, "api.team-a")).to_bytes().unwrap();
    // The last field is the signature: a string of two strings, the name of the algorithm and 64 bytes.
    let rest = &bytes[..bytes.len() - (4 + 4 + "ssh-ed25519".len() + 4 + 64)];
    let mut signature = crate::wire::Writer::new();
    signature.string(b"ssh-rsa").string(&[1; 256]);
    let mut forged = crate::wire::Writer::new();
    forged.raw(rest).string(&signature.finish());
    let forged = Certificate::from_bytes(&forged.finish()).unwrap();
    assert_eq!(check(&forged, "::1"), Err(Denied::WeakSignature));
}

#[test]
fn permissions_survive_their_way_to_the_guest() {
    let of = |options: &str| line(options).unwrap().options.permissions;
    for permissions in [
        Permissions::all(),
        Permissions::none(),
        of("restrict,pty,command=\"a \\\"b\\\"\",permitopen=\"[::1]:80\",permitlisten=\"*:*\""),
        of("environment=\"A=\u{e4}\",expiry-time=\"20300101\""),
    ] {
        let json = serde_json::to_string(&permissions).unwrap();
        assert_eq!(serde_json::from_str::<Permissions>(&json).unwrap(), permissions);
    }
    // What is not said is not allowed.
    assert!(serde_json::from_str::<Permissions>("{}").is_err());
}
