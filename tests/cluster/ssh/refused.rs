//! Who does not enter: in the same words, whatever is wrong.

use serde_json::json;
use sparks_tests::{apply, get_spark, run, shared, spark, spark_object, until_reason};

use super::{door, enterable, guest_house};

fn try_login(key: &str, login: &str) -> String {
    let mut words = door().words(key, &["-o", "BatchMode=yes"], login);
    words.push("true".into());
    let said = run("ssh", &words.iter().map(String::as_str).collect::<Vec<_>>(), "");
    // The client repeats the name that it was given.
    said.refused().replace(&door().place(login), "LOGIN").trim().to_owned()
}

#[test]
fn a_wrong_key_an_unknown_spark_and_a_strange_name_are_refused_in_the_same_words() {
    guest_house();
    door().new_key("stranger");
    let ns = shared();
    let wrong = try_login("stranger", &format!("house.{ns}"));
    assert!(wrong.contains("Permission denied (publickey)"), "{wrong}");
    for login in [format!("nothing.{ns}"), "house.nowhere".into(), "a.b.c.d".into(), "x..y".into()] {
        assert_eq!(try_login("stranger", &login), wrong, "{login}");
        assert!(try_login("key", &login).contains("Permission denied (publickey)"), "{login}");
    }
}

#[test]
fn a_user_that_the_spark_does_not_have_gets_one_clear_sentence_or_a_refusal() {
    let door = guest_house();
    let mut words =
        door.words("key", &["-o", "BatchMode=yes"], &format!("nobody-of-that-name+house.{}", shared()));
    words.push("true".into());
    let said = run("ssh", &words.iter().map(String::as_str).collect::<Vec<_>>(), "");
    assert_eq!(said.code, 255, "{said:?}");
    assert!(!said.err.trim().is_empty());
}

#[test]
fn a_key_with_options_may_do_what_they_say_and_no_more() {
    let ns = shared();
    let public = door().new_key("limited");
    let line = format!("restrict,command=\"echo forced: $SSH_ORIGINAL_COMMAND\" {public}");
    let spec = json!({"from": {"spark": "source"}, "ssh": {"authorizedKeys": [line]}});
    apply(&spark_object(ns, "strict", &spec)).ok();
    super::until_enterable("strict");
    let mut words = door().words("limited", &[], &format!("strict.{ns}"));
    words.push("rm -rf /".into());
    let said = run("ssh", &words.iter().map(String::as_str).collect::<Vec<_>>(), "");
    assert!(said.out.contains("forced: rm -rf /"), "{said:?}");
    let words = door().words("limited", &["-W", "localhost:2022"], &format!("strict.{ns}"));
    let said = run("ssh", &words.iter().map(String::as_str).collect::<Vec<_>>(), "");
    assert!(!said.refused().is_empty(), "forwarding is restricted");
}

#[test]
fn a_stopped_spark_says_how_to_start_it() {
    let door = enterable("resting", &json!({}));
    spark(shared(), &["stop", "resting"]).ok();
    until_reason(shared(), "resting", "Stopped");
    let said = door.ssh(&[], "resting", "true", "");
    assert!(said.err.contains("spark start resting"), "{said:?}");
    assert_eq!(get_spark(shared(), "resting")["spec"]["lifecycle"]["running"], false);
}
