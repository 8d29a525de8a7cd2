use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::task::yield_now;

use super::*;

#[derive(Clone, Copy)]
enum Says {
    Key,
    None,
    Error,
    Nothing,
}

struct Fake {
    says: Mutex<Says>,
    reads: AtomicUsize,
}

impl Keys for Fake {
    fn key<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let says = *self.says.lock().unwrap();
        Box::pin(async move {
            yield_now().await;
            match says {
                Says::Key => Ok(Some(Arc::new(Key::new(&[1; 32]).unwrap()))),
                Says::None => Ok(None),
                Says::Error => Err(Unavailable::new(namespace, "")),
                Says::Nothing => std::future::pending().await,
            }
        })
    }
}

fn kept(says: Says) -> Kept<Fake> {
    Kept::new(Fake { says: Mutex::new(says), reads: AtomicUsize::new(0) })
}

impl Kept<Fake> {
    fn reads(&self) -> usize {
        self.0.keys.reads.load(Ordering::Relaxed)
    }

    fn now(&self, says: Says) {
        *self.0.keys.says.lock().unwrap() = says;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_read_once_by_all_who_ask_and_again_after_a_while() {
    let kept = kept(Says::Key);
    let all = join_all((0..100).map(|_| kept.key("a"))).await;
    assert!(all.iter().all(|found| found.as_ref().unwrap().is_some()));
    assert_eq!(kept.reads(), 1);
    kept.now(Says::None);
    tokio::time::advance(KEPT).await;
    assert!(kept.key("a").await.unwrap().is_none(), "a key that was deleted opens nothing more");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_did_not_sign_is_read_again_but_not_as_often_as_somebody_asks() {
    let kept = kept(Says::Key);
    let old = kept.key("a").await.unwrap().unwrap();
    for _ in 0..100 {
        assert!(Arc::ptr_eq(&kept.key_after("a", &old).await.unwrap().unwrap(), &old));
    }
    assert_eq!(kept.reads(), 1);
    tokio::time::advance(TRUSTED).await;
    let new = kept.key_after("a", &old).await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(&new, &old));
    // All who still have the old one share that read.
    assert!(Arc::ptr_eq(&kept.key_after("a", &old).await.unwrap().unwrap(), &new));
    assert_eq!(kept.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn that_there_is_no_key_is_soon_forgotten() {
    let kept = kept(Says::None);
    assert!(kept.key("a").await.unwrap().is_none());
    kept.now(Says::Key);
    assert!(kept.key("a").await.unwrap().is_none());
    tokio::time::advance(MISSED).await;
    assert!(kept.key("a").await.unwrap().is_some());
    assert_eq!(kept.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_known_key_outlives_an_api_server_that_does_not_answer_but_not_forever() {
    let kept = kept(Says::Key);
    assert!(kept.key("a").await.unwrap().is_some());
    kept.now(Says::Error);
    tokio::time::advance(STALE / 2).await;
    assert!(kept.key("a").await.unwrap().is_some());
    tokio::time::advance(STALE).await;
    assert!(kept.key("a").await.is_err());
    assert!(kept.key("b").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn strangers_who_name_many_namespaces_fill_no_memory_and_make_few_reads() {
    let kept = kept(Says::None);
    let before = Instant::now();
    for index in 0..MANY + 500 {
        while kept.key(&format!("n{index}")).await.is_err() {
            tokio::time::advance(READ_COUNTS).await;
            yield_now().await;
        }
    }
    assert!(kept.0.kept().len() <= MANY);
    let per_second = (kept.reads() - READS) as f64 / before.elapsed().as_secs_f64();
    assert!(per_second <= 101.0, "{per_second} reads per second");
}

/// Asks for namespaces that nobody knows until no more are looked up.
async fn spend_the_budget(kept: &Kept<Fake>) {
    // Those before them are given up.
    tokio::time::sleep(Duration::from_millis(1)).await;
    kept.now(Says::Nothing);
    let mut refused = None;
    for index in 0..1000 {
        let name = format!("n{index}");
        refused = kept.key(&name).now_or_never();
        if refused.is_some() {
            break;
        }
    }
    assert!(refused.unwrap().is_err(), "who comes too late is told so at once");
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_has_a_key_does_not_wait_for_those_who_name_many_namespaces() {
    let kept = kept(Says::Key);
    let old = kept.key("a").await.unwrap().unwrap();
    for age in [KEPT, STALE, REMEMBERED / 2] {
        tokio::time::advance(age).await;
        spend_the_budget(&kept).await;
        kept.now(Says::Key);
        let before = Instant::now();
        let key = kept.key("a").await.unwrap().unwrap();
        assert!(!Arc::ptr_eq(&key, &old) && before.elapsed().is_zero(), "it was read again, and at once");
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_who_name_many_namespaces_make_no_known_key_forgotten() {
    let kept = kept(Says::Key);
    assert!(kept.key("a").await.unwrap().is_some());
    kept.now(Says::None);
    for index in 0..2 * MANY {
        while kept.key(&format!("n{index}")).await.is_err() {
            tokio::time::advance(READ_COUNTS).await;
            yield_now().await;
        }
    }
    kept.now(Says::Error);
    assert!(kept.key("a").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_key_in_use_is_renewed_before_it_is_too_old_and_nobody_waits_for_that() {
    let kept = kept(Says::Key);
    let mut key = kept.key("a").await.unwrap();
    for (reads, says) in [(2, Says::Key), (3, Says::Key), (4, Says::None)] {
        kept.now(says);
        tokio::time::sleep(RENEWED).await;
        let at_once = kept.key("a").now_or_never().unwrap().unwrap();
        assert!(Arc::ptr_eq(&at_once.unwrap(), &key.unwrap()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        key = kept.key("a").now_or_never().unwrap().unwrap();
        assert_eq!(kept.reads(), reads);
    }
    assert!(key.is_none(), "a deleted key opens nothing more");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_says_nothing_is_waited_for_once() {
    let kept = kept(Says::Key);
    assert!(kept.key("a").await.unwrap().is_some());
    kept.now(Says::Nothing);
    tokio::time::advance(KEPT).await;
    let before = Instant::now();
    assert!(kept.key("a").await.unwrap().is_some());
    assert!(before.elapsed() <= READ_WITHIN + Duration::from_millis(10));
    for _ in 0..10 {
        assert!(kept.key("a").now_or_never().unwrap().unwrap().is_some());
        tokio::time::advance(PAUSE).await;
    }
    assert!(kept.reads() <= 7, "{}", kept.reads());
}

#[tokio::test(start_paused = true)]
async fn whoever_shows_nonsense_keeps_nobody_waiting_who_has_a_token() {
    let kept = kept(Says::Key);
    let old = kept.key("a").await.unwrap().unwrap();
    tokio::time::advance(TRUSTED).await;
    kept.now(Says::Nothing);
    assert!(kept.key_after("a", &old).now_or_never().is_none());
    assert!(kept.key("a").now_or_never().unwrap().unwrap().is_some(), "while that read goes on");
    spend_the_budget(&kept).await;
    tokio::time::sleep(READ_WITHIN + PAUSE).await;
    spend_the_budget(&kept).await;
    let after = kept.key_after("a", &old).now_or_never().expect("at once").unwrap().unwrap();
    assert!(Arc::ptr_eq(&after, &old));
}
