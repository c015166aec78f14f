//! A disk that is full, refuses, or belongs to somebody else.
//!
//! Refuses to need rights: where a limit of the process says the same as a device, the limit is used.

use crate::child;
use crate::place::{Place, Running};
use sealmq_store::sqlite::{Settings, Store};
use sealmq_store::{Health, Log, Order, SessionId, Slot};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn a_second_process_is_refused() {
    let place = Place::new();
    let first = place.open().unwrap();
    let error = place.open().err().unwrap();
    assert_eq!(error.code, "store-locked");
    drop(first);
    place.open().unwrap();
}

/// Between fork and exec a child has all that its parent has open, the lock among it.
#[test]
fn a_child_that_is_being_born_keeps_no_store_locked() {
    let place = Place::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::process::Command::new("true").status().unwrap();
            }
        });
        let found: Vec<_> = (0..300).filter_map(|_| place.open().err()).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(found.is_empty(), "{} times: {:?}", found.len(), found.first());
    });
}

#[test]
fn only_the_owner_may_read() {
    let place = Place::new();
    let deep = place.folder.path().join("made/store.db");
    let settings = Settings {
        path: deep.clone(),
        ..place.settings()
    };
    let mut running = Running::start(Store::open(settings).unwrap());
    let (seq, _) = running.deliver(1, 1, b"private");
    running.until_safe(seq);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let folder = deep.parent().unwrap();
    assert_eq!(mode(folder), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 4, "file, log, its index, lock");
    running.close();
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o644)).unwrap();
    let settings = Settings {
        path: deep.clone(),
        ..place.settings()
    };
    drop(Store::open(settings).unwrap());
    assert_eq!(mode(&deep), 0o600);
}

#[test]
fn at_the_bound_the_log_is_full_and_what_is_done_makes_room() {
    let place = Place {
        max_bytes: 4 << 20,
        ..Place::new()
    };
    let mut running = place.run();
    running.begin(1);
    let mut order = 0;
    while running.log.health() == Health::Good {
        order += 1;
        let (seq, _) = running.deliver(1, order, &[7; 10_000]);
        running.until_safe(seq);
    }
    assert_eq!(running.log.health(), Health::Full);
    assert!((300..1000).contains(&order), "{order} messages of 10,000 bytes");
    // Nothing that was given is refused, and what leaves makes room.
    let (seq, _) = running.deliver(1, order + 1, b"late");
    running.until_safe(seq);
    assert_eq!(running.page(1, 0, 1, 1).messages.len(), 1);
    for order in 0..=order {
        running.log.done(SessionId(1), Order(order), Slot::default());
    }
    running.until("there is room again", |log| log.health() == Health::Good);
    running.close();
}

#[test]
fn a_write_that_fails_ends_the_promises() {
    if let Some((folder, _)) = child::role() {
        return write_until_refused(&folder.join("store.db"));
    }
    let place = Place::new();
    place.run().close();
    // 512 KiB a file; without the trap the process would die of it.
    let limit = "trap '' XFSZ; ulimit -f 1024;";
    let name = "faults::a_write_that_fails_ends_the_promises";
    let output = child::command(name, limit, place.folder.path().as_os_str(), 0)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // What was safe is there.
    let said = String::from_utf8(output.stdout).unwrap();
    let safe: u64 = said
        .lines()
        .find_map(|line| line.strip_prefix("safe "))
        .unwrap()
        .parse()
        .unwrap();
    let mut running = place.run();
    assert!(safe > 10);
    assert!(running.page(1, 0, 1000, 1 << 30).messages.len() as u64 >= safe);
    running.close();
}

fn write_until_refused(path: &std::path::Path) {
    let settings = Settings {
        path: path.into(),
        max_bytes: 1 << 40,
        lazy_after: Duration::from_millis(1),
    };
    let mut running = Running::start(Store::open(settings).unwrap());
    let mut order = 0;
    loop {
        order += 1;
        let (seq, _) = running.deliver(1, order, &[7; 10_000]);
        running.until("safe or failed", |log| {
            log.watermark().proves(seq).is_some() || log.health() != Health::Good
        });
        if running.log.watermark().proves(seq).is_none() {
            break;
        }
    }
    let Health::Failed(sentence) = running.log.health() else {
        panic!("{:?}", running.log.health())
    };
    assert!(sentence.contains("I/O"), "{sentence}");
    let still = running.log.watermark();
    let (seq, _) = running.deliver(1, order + 1, b"too late");
    assert!(running.log.watermark() == still && still.proves(seq).is_none());
    // The harness has written half a line.
    println!("\nsafe {}", order - 1);
    assert_eq!(
        running.store.close(Duration::from_secs(60)).unwrap_err().code,
        "store-failed"
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let place = Place::new();
    let file = place.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let settings = Settings {
        path: file.join("store.db"),
        ..place.settings()
    };
    assert_eq!(Store::open(settings).err().unwrap().code, "store-unreadable");
}

/// Run a test in a process with a file system of its own, 16 MiB large, mounted with `options`; `false` where that is not
/// allowed.
fn on_small_disk(name: &str, options: &str) -> bool {
    let place = Place::new();
    let inner = child::command(name, "", place.folder.path().as_os_str(), 0);
    let mount = format!(
        "mount -t tmpfs -o size=16m tmpfs {:?} && {options} ",
        place.folder.path()
    );
    let mut command = std::process::Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", &format!("{mount} exec \"$0\" \"$@\"")])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let allowed = std::process::Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "tmpfs"])
        .arg(place.folder.path())
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        return false;
    }

    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    true
}

#[test]
fn a_small_disk_is_full_before_it_overflows_and_goes_on_when_there_is_room() {
    if let Some((folder, _)) = child::role() {
        return fill_a_disk(&folder);
    }
    on_small_disk(
        "faults::a_small_disk_is_full_before_it_overflows_and_goes_on_when_there_is_room",
        "",
    );
}

fn fill_a_disk(folder: &std::path::Path) {
    let settings = Settings {
        path: folder.join("store.db"),
        max_bytes: 1 << 40,
        lazy_after: Duration::from_millis(1),
    };
    let mut running = Running::start(Store::open(settings).unwrap());
    running.begin(1);
    let mut order = 0;
    while running.log.health() == Health::Good {
        order += 1;
        let (seq, _) = running.deliver(1, order, &[7; 20_000]);
        running.until_safe(seq);
    }
    assert!(order > 100, "{order}");
    // Somebody else takes the rest, to the last byte. What the log is given now is less than the reserve it kept.
    let greed = folder.join("greed");
    let mut rest = fs::File::create(&greed).unwrap();
    while rest.write_all(&[0; 4096]).is_ok() {}
    drop(rest);
    let mut last = sealmq_store::Seq(0);
    for more in 1..=20 {
        last = running.deliver(1, order + more, &[7; 20_000]).0;
    }
    assert!(running.log.watermark().proves(last).is_none());
    // What waits can be read all the same.
    assert_eq!(running.page(1, 0, 3, 1 << 20).messages.len(), 3);
    fs::remove_file(&greed).unwrap();
    for order in 1..=order {
        running.log.done(SessionId(1), Order(order), Slot::default());
    }
    running.until_safe(last);
    running.until("there is room again", |log| log.health() == Health::Good);
    let page = running.page(1, 0, 1000, 1 << 30);
    assert_eq!(
        page.messages.iter().map(|message| message.order.0).collect::<Vec<_>>(),
        (order + 1..=order + 20).collect::<Vec<_>>()
    );
    assert_eq!(running.store.check().unwrap(), Vec::<String>::new());
    running.close();
}

#[test]
fn a_read_only_disk_is_told() {
    if let Some((folder, _)) = child::role() {
        let settings = Settings {
            path: folder.join("store.db"),
            max_bytes: 1 << 40,
            lazy_after: Duration::ZERO,
        };
        assert_eq!(Store::open(settings).err().unwrap().code, "store-read-only");
        return;
    }
    on_small_disk(
        "faults::a_read_only_disk_is_told",
        "mount -o remount,ro \"$SEALMQ_TEST_FOLDER\" &&",
    );
}
