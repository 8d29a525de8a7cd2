//! `spark ssh` and its relatives: no key of the user's, only the right to run commands.

use std::io::Read;
use std::process::{Command, Stdio};

use sparks_api::SSH_PORT;
use sparks_tests::{Said, eventually, get_spark, inside, run, shared, spark};

use super::guest_house;

#[test]
fn spark_ssh_needs_no_key_and_gives_the_exit_code() {
    guest_house();
    let said = spark(shared(), &["ssh", "house", "cat /etc/hostname; echo oops >&2; exit 9"]);
    assert_eq!((said.out.as_str(), said.err.trim(), said.code), ("house", "oops", 9));
}

/// `spark` where the gateway's address is known.
fn by_gateway(words: &[&str]) -> Said {
    by_gateway_with(&[], words)
}

/// The same with variables.
fn by_gateway_with(variables: &[&str], words: &[&str]) -> Said {
    let gateway =
        std::env::var("SPARKS_GATEWAY_HTTP").expect("SPARKS_GATEWAY_HTTP names the gateway: run `make test`");
    let url = format!("SPARKS_GATEWAY_URL=http://{gateway}");
    run("env", &[variables, &[&url, "spark", "-n", shared()], words].concat(), "")
}

#[test]
fn spark_ssh_goes_through_the_gateway_to_the_sparks_own_port_unless_told_not_to() {
    guest_house();
    let command = "echo $SSH_CONNECTION";
    // What a connection on standard input and output says.
    let by_exec = "127.0.0.1 65535 127.0.0.1 22";
    assert_eq!(by_gateway(&["ssh", "--no-gateway", "house", command]).ok(), by_exec);
    let spark = get_spark(shared(), "house");
    let own_port = format!(" {} {SSH_PORT}", spark["status"]["podIP"].as_str().unwrap());
    let said = by_gateway(&["ssh", "-v", "house", command]);
    assert!(said.out.ends_with(&own_port), "{said:?}");
    assert!(said.err.contains("spark: through the gateway"), "{said:?}");
    // A port that nobody has.
    let nowhere = ["SPARKS_GATEWAY_URL=http://127.0.0.1:1", "spark", "-n", shared(), "ssh", "house", command];
    assert_eq!(run("env", &nowhere, "").ok(), by_exec);
}

#[test]
fn spark_scp_carries_files_through_the_gateway() {
    let door = guest_house();
    let (up, down) = (door.path("gateway-up"), door.path("gateway-down"));
    let data: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&up, &data).unwrap();
    by_gateway(&["scp", up.to_str().unwrap(), "house:/tmp/through-the-gateway"]).ok();
    by_gateway(&["scp", "house:/tmp/through-the-gateway", down.to_str().unwrap()]).ok();
    assert!(std::fs::read(down).unwrap() == data);
}

#[test]
fn spark_sftp_takes_the_commands_of_a_file_and_ends_at_the_first_that_fails() {
    let door = guest_house();
    let (up, down, batch) = (door.path("sftp-up"), door.path("sftp-down"), door.path("batch"));
    std::fs::write(&up, vec![8; 3_000_001]).unwrap();
    let commands = format!(
        "cd /tmp\nput {} by-sftp\nget by-sftp {}\nls absent\nrm by-sftp\n",
        up.display(),
        down.display()
    );
    std::fs::write(&batch, commands).unwrap();
    let said = by_gateway(&["sftp", "-q", "-b", batch.to_str().unwrap(), "house"]);
    assert!(said.code == 1 && said.err.contains("\"/tmp/absent\" not found"), "{said:?}");
    assert!(std::fs::read(up).unwrap() == std::fs::read(down).unwrap());
    inside(shared(), "house", "rm /tmp/by-sftp").ok();
}

#[test]
fn spark_scp_carries_files_both_ways() {
    let door = guest_house();
    let (up, down) = (door.path("spark-up"), door.path("spark-down"));
    std::fs::write(&up, vec![7; 3_000_001]).unwrap();
    spark(shared(), &["scp", up.to_str().unwrap(), "house:/tmp/by-spark"]).ok();
    spark(shared(), &["scp", "house:/tmp/by-spark", down.to_str().unwrap()]).ok();
    assert!(std::fs::read(up).unwrap() == std::fs::read(down).unwrap());
}

#[test]
fn ssh_config_lets_plain_ssh_find_every_spark_by_name() {
    let door = guest_house();
    let home = door.path("home");
    std::fs::create_dir(&home).unwrap();
    let script = format!(
        "export HOME={home}; spark -n {ns} ssh-config -q && ssh -F {home}/.ssh/spark.conf house.spark hostname && ssh -F {home}/.ssh/spark.conf source.{ns}.spark hostname",
        home = home.display(),
        ns = shared()
    );
    let said = run("sh", &["-c", &script], "");
    assert_eq!(said.out, "house\nsource", "{said:?}");
    let listed = std::fs::read_to_string(home.join(".ssh/spark.conf")).unwrap();
    assert!(listed.contains("Host house.spark house."), "{listed}");
    assert!(std::fs::read_to_string(home.join(".ssh/config")).unwrap().starts_with("Include spark.conf"));
}

#[test]
fn ssh_itself_takes_over_the_connection_that_ssh_config_opens() {
    let door = guest_house();
    let home = door.path("own");
    std::fs::create_dir(&home).unwrap();
    let with_home = format!("HOME={}", home.display());
    by_gateway_with(&[&with_home], &["ssh-config", "-q"]).ok();
    let file = home.join(".ssh/spark.conf");
    let mut ssh = Command::new("ssh")
        .args(["-F", file.to_str().unwrap(), "house.spark", "echo in; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 3];
    ssh.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let its_own = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", ssh.id())).unwrap();
    drop(ssh.stdin.take());
    assert!(ssh.wait().unwrap().success());
    assert_eq!(its_own, "", "nobody copies");
}

#[test]
fn what_ssh_config_writes_leads_there_without_a_kubeconfig_in_the_environment() {
    let door = guest_house();
    let [home, up, clone] = ["elsewhere", "plain-up", "plain-clone"].map(|name| door.path(name));
    std::fs::create_dir(&home).unwrap();
    by_gateway_with(&[&format!("HOME={}", home.display())], &["ssh-config", "-q"]).ok();
    std::fs::write(&up, "by plain scp").unwrap();
    inside(shared(), "house", "git init -q --bare /srv/plain.git").ok();
    let file = format!("{}/.ssh/spark.conf", home.display());
    let anywhere = |words: &[&str]| {
        let without = ["-u", "KUBECONFIG", "-u", "SPARKS_GATEWAY_URL", "-C", "/", "HOME=/nonexistent"];
        run("env", &[&without, words].concat(), "")
    };
    assert_eq!(anywhere(&["ssh", "-F", &file, "house.spark", "hostname"]).ok(), "house");
    anywhere(&["scp", "-F", &file, up.to_str().unwrap(), "house.spark:/tmp/plain"]).ok();
    assert_eq!(anywhere(&["ssh", "-F", &file, "house.spark", "cat /tmp/plain"]).ok(), "by plain scp");
    let git = format!("GIT_SSH_COMMAND=ssh -F {file}");
    let from = format!("house.{}.spark:/srv/plain.git", shared());
    anywhere(&[&git, "git", "clone", "-q", &from, clone.to_str().unwrap()]).ok();
    assert!(clone.join(".git").is_dir());
}

#[test]
fn spark_ssh_takes_user_and_namespace_with_the_name_and_git_calls_it_as_ssh() {
    let door = guest_house();
    inside(shared(), "house", "id lodger || useradd -m lodger; git init -q --bare /srv/own.git").ok();
    let place = format!("lodger@house.{}", shared());
    assert_eq!(spark("default", &["ssh", &place, "id -un"]).ok(), "lodger");
    assert_eq!(spark("default", &["ssh", "-l", "root", &format!("{place}.spark"), "id -un"]).ok(), "root");
    let clone = door.path("own-clone");
    let from = format!("root@house.{}:/srv/own.git", shared());
    let words = ["GIT_SSH_COMMAND=spark ssh", "git", "clone", "-q", &from, clone.to_str().unwrap()];
    run("env", &words, "").ok();
    assert!(clone.join(".git").is_dir());
}

#[test]
fn spark_scp_says_in_one_sentence_which_spark_is_not_there() {
    guest_house();
    let said = spark(shared(), &["scp", "house:/etc/hostname", "absent:/tmp/x"]);
    assert_eq!((said.code, said.err.trim().lines().count()), (3, 1), "{said:?}");
    assert!(said.err.contains("spark \"absent\" not found"), "{said:?}");
}

#[test]
fn spark_forward_announces_no_port_that_is_taken() {
    guest_house();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = format!("{}:80", taken.local_addr().unwrap().port());
    let said = spark(shared(), &["forward", "house", ":80", &ports]);
    assert_eq!((said.code, said.out.as_str(), said.err.trim().lines().count()), (1, "", 1), "{said:?}");
}

#[test]
fn spark_forward_and_tunnel_carry_connections() {
    guest_house();
    let serve = "setsid python3 -m http.server -b 127.0.0.1 -d /etc 7010 </dev/null >/dev/null 2>&1 &";
    inside(shared(), "house", serve).ok();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut forward = Command::new("spark")
        .args(["-n", shared(), "forward", "house", &format!("{port}:7010")])
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}/hostname");
    let said = eventually("the forwarded port", || {
        Some(run("curl", &["-sf", &url], "")).filter(|said| said.code == 0)
    });
    assert_eq!(said.out, "house");
    let mut tunnel = Command::new("spark")
        .args(["-n", shared(), "tunnel", "house", &format!("7011:{port}")])
        .spawn()
        .unwrap();
    let fetch = "python3 -c \"import urllib.request as u; print(u.urlopen('http://localhost:7011/hostname').read().decode())\"";
    let said =
        eventually("the tunnel", || Some(inside(shared(), "house", fetch)).filter(|said| said.code == 0));
    assert_eq!(said.out, "house", "there and back again");
    for child in [&mut forward, &mut tunnel] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
