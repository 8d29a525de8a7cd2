//! Terminals, seen through tmux as a person sees them.

use sparks_tests::{PATIENCE, eventually, inside, run, shared};

use super::{Door, guest_house};

/// A tmux server of its own, ended at the end.
pub struct Screen(String);

impl Screen {
    /// A terminal of this size in which ssh runs.
    fn new(door: &Door, name: &str, command: &str, size: (u32, u32)) -> Self {
        Self::of("house", door, name, command, size)
    }

    /// The same for a login, without its namespace.
    pub fn of(login: &str, door: &Door, name: &str, command: &str, (columns, rows): (u32, u32)) -> Self {
        let screen = Self(door.path(&format!("{name}.tmux")).display().to_string());
        let words: Vec<String> = door
            .words("key", &["-t"], &format!("{login}.{}", shared()))
            .iter()
            .map(|word| format!("'{word}'"))
            .collect();
        let line = format!("ssh {} {command}", words.join(" "));
        let settings = door.path(&format!("{name}.conf"));
        // What is left of a session that ended is still to be seen.
        std::fs::write(&settings, "set -g status off\nset -g remain-on-exit on\n").unwrap();
        let settings = settings.to_str().unwrap();
        screen.tmux(&[
            "-f",
            settings,
            "new-session",
            "-d",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
            &line,
        ]);
        screen.resize(columns, rows);
        screen
    }

    fn tmux(&self, words: &[&str]) -> String {
        run("tmux", &[&["-S", self.0.as_str()], words].concat(), "").ok()
    }

    pub fn resize(&self, columns: u32, rows: u32) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub fn shows(&self, wanted: &str) {
        let began = std::time::Instant::now();
        while !self.text().contains(wanted) {
            assert!(
                began.elapsed() < PATIENCE,
                "{wanted:?} is not on the screen, which shows:\n{}",
                self.text()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J"])
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = run("tmux", &["-S", &self.0, "kill-server"], "");
    }
}

#[test]
fn a_program_has_the_right_size_when_it_starts() {
    let screen = Screen::new(guest_house(), "first", "'stty size; tput cols; cat'", (97, 31));
    screen.shows("31 97\n97");
}

#[test]
fn the_size_is_right_after_each_of_a_hundred_changes() {
    let script = "'trap \"stty size\" WINCH; echo begin; while :; do sleep 1000 & wait; done'";
    let screen = Screen::new(guest_house(), "sizes", script, (80, 24));
    screen.shows("begin");
    for i in 0..100 {
        let (columns, rows) = (60 + (i * 7) % 90, 15 + (i * 5) % 40);
        screen.resize(columns, rows);
        screen.shows(&format!("{rows} {columns}"));
    }
}

#[test]
fn tmux_vim_and_a_shell_inside_follow_the_window() {
    let door = guest_house();
    let screen =
        Screen::new(door, "editor", "tmux -f /dev/null new-session vi -u NONE /tmp/edited", (90, 30));
    screen.shows("~");
    screen.resize(120, 40);
    // tmux keeps one line for itself.
    for (question, answer) in [(":set columns?", "columns=120"), (":set lines?", "lines=39")] {
        screen.keys(&[question, "Enter"]);
        screen.shows(answer);
    }
    screen.keys(&["i", "grün ✓", "Escape", ":wq", "Enter"]);
    eventually("the file", || (inside(shared(), "house", "cat /tmp/edited").out == "grün ✓").then_some(()));
}

#[test]
fn htop_fills_the_window_after_each_change() {
    let door = guest_house();
    // The only process that it shows has a command line longer than any window is wide.
    let command = format!("'htop -p $$; : {}'", "x".repeat(300));
    let screen = Screen::new(door, "htop", &command, (100, 30));
    for i in 0..12 {
        let (columns, rows) = (90 + (i * 37) % 110, 15 + (i * 11) % 40);
        screen.resize(columns, rows);
        let fills = || {
            let text = screen.tmux(&["capture-pane", "-p"]);
            let widest = text.lines().map(|line| line.trim_end().chars().count()).max();
            let is_full = widest == Some(columns as usize) && text.lines().count() == rows as usize;
            (is_full && text.lines().last()?.starts_with("F1Help")).then_some(())
        };
        let began = std::time::Instant::now();
        while fills().is_none() {
            assert!(began.elapsed() < PATIENCE, "htop does not fill {columns}x{rows}:\n{}", screen.text());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    screen.keys(&["q"]);
}

#[test]
fn another_user_than_the_default_one_has_a_terminal_of_its_own() {
    let door = guest_house();
    super::another_user();
    let script = "'id -un; stat -c \"%U %G %a\" $(tty); [ $SSH_TTY = $(tty) ] && stty size; cat'";
    let screen = Screen::of("dev+house", door, "other", script, (97, 31));
    screen.shows("dev\ndev tty 620\n31 97");
}

#[test]
fn what_is_typed_controls_the_program_and_a_lost_terminal_ends_it() {
    let door = guest_house();
    let screen = Screen::new(
        door,
        "control",
        "'trap : INT; tty; stty -a | grep -o iutf8; sleep 12345; echo after $?'",
        (80, 24),
    );
    screen.shows("/dev/pts/");
    screen.shows("iutf8");
    screen.keys(&["C-c"]);
    screen.shows("after 130");
    let screen = Screen::new(
        door,
        "lost",
        "'trap \"echo hup > /tmp/hup; exit\" HUP; rm -f /tmp/hup; echo waits; while :; do sleep 0.1; done'",
        (80, 24),
    );
    screen.shows("waits");
    drop(screen);
    eventually("the hangup", || (inside(shared(), "house", "cat /tmp/hup").out == "hup").then_some(()));
}
