use super::*;
use crate::logs::history::last_lines;

struct Fixture {
    dir: tempfile::TempDir,
    file: LogFile,
    rules: Rules,
}

fn fixture(max_size: u64, compress: bool) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let mut file = LogFile::new(dir.path().join("sub/a-out.log"), 0o640);
    file.asked = RotateSpec {
        max_size: Some(max_size),
        compress: Some(compress),
        retain: Some(0),
        ..RotateSpec::default()
    };
    let rules = Rules {
        daemon: RotateSpec::default(),
        tidier: Tidier::start().unwrap(),
        zone: TimeZone::UTC,
    };
    Fixture { dir, file, rules }
}

impl Fixture {
    fn append(&mut self, piece: &[u8]) {
        let appended = self.file.append(piece, Some(&self.rules), &mut |_| {});
        appended.unwrap();
    }

    /// What was put aside, oldest first, and the present file.
    fn files(&self) -> Vec<Vec<u8>> {
        let mut found = aside::found(self.file.path()).unwrap();
        found.sort();
        let aside = found
            .iter()
            .map(|(mark, form)| aside::path(self.file.path(), mark, *form));
        aside
            .chain([self.file.path().to_owned()])
            .map(|path| std::fs::read(path).unwrap())
            .collect()
    }
}

#[test]
fn a_full_file_is_put_aside_between_lines() {
    let mut it = fixture(8, false);
    it.append(b"one\ntwo\nthree\n");
    it.append(b"fo");
    it.append(b"ur\nfive\n");
    assert_eq!(
        it.files(),
        [&b"one\ntwo\n"[..], b"three\nfour\n", b"five\n"]
    );
    assert_eq!(it.file.descriptor().unwrap().1, 3);
    assert_eq!(
        last_lines(it.file.path(), 4).unwrap(),
        [&b"two"[..], b"three", b"four", b"five"]
    );
}

#[test]
fn each_write_is_told_of_and_what_it_has_done_is_found_again() {
    let mut it = fixture(8, false);
    let piece = b"one\ntwo\nthree\n";
    let mut places = Vec::new();
    let appended = it
        .file
        .append(piece, Some(&it.rules), &mut |place| places.push(place));
    appended.unwrap();
    let told: Vec<_> = places
        .iter()
        .map(|place| (place.length, place.done))
        .collect();
    assert_eq!(told, [(0, 0), (8, 8), (0, 8), (6, 14)]);
    assert_ne!(places[1].inode, places[2].inode);
    // The first file was put aside; the second one has all that its place had before it.
    for (place, written) in places.iter().zip([0, 8, 14, 14]) {
        assert_eq!(it.file.written(piece, Some(place)), written);
    }
    assert_eq!(it.file.written(piece, None), 0);
    std::fs::write(it.file.path(), "th").unwrap();
    assert_eq!(it.file.written(piece, Some(&places[2])), 10);
}

#[test]
fn a_file_that_was_there_goes_on_and_its_open_line_stays_whole() {
    let mut it = fixture(8, false);
    std::fs::create_dir_all(it.file.path().parent().unwrap()).unwrap();
    std::fs::write(it.file.path(), "12345678 no end").unwrap();
    it.append(b" yet\nnext\n");
    assert_eq!(it.files(), [&b"12345678 no end yet\n"[..], b"next\n"]);
}

#[test]
fn a_link_stays_and_its_file_is_put_aside() {
    let mut it = fixture(4, false);
    let real = it.dir.path().join("real.log");
    std::fs::create_dir_all(it.file.path().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, it.file.path()).unwrap();
    it.append(b"one\ntwo\n");
    assert!(it.file.path().is_symlink());
    assert_eq!(std::fs::read(&real).unwrap(), b"two\n");
    assert_eq!(aside::found(&real).unwrap().len(), 1);
}

#[test]
fn what_cannot_be_put_aside_goes_on() {
    let mut it = fixture(4, false);
    // Longer than a name may be once the time is in it.
    let path = it.dir.path().join(format!("{}.log", "x".repeat(240)));
    let mut file = LogFile::new(path.clone(), 0o640);
    file.asked = it.file.asked;
    file.append(b"one\ntwo\nthree\n", Some(&it.rules), &mut |_| {})
        .unwrap();
    assert!(file.take_trouble().is_some() && file.take_trouble().is_none());
    assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nthree\n");
    it.append(b"one\n");
}

#[test]
fn devices_are_never_put_aside() {
    let mut it = fixture(1, false);
    let mut null = LogFile::new("/dev/null".into(), 0o640);
    null.asked = it.file.asked;
    null.append(b"one\ntwo\n", Some(&it.rules), &mut |_| {})
        .unwrap();
    it.append(b"x\n");
    assert!(null.take_trouble().is_none() && Path::new("/dev/null").exists());
}

/// Takes so many bytes, three at a time, and then no more.
struct Full {
    room: usize,
    interruptions: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.interruptions > 0 {
            self.interruptions -= 1;
            return Err(ErrorKind::Interrupted.into());
        }
        let count = bytes.len().min(self.room).min(3);
        self.room -= count;
        if count == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn how_much_of_a_piece_was_written_is_known() {
    for (room, written) in [(0, 0), (2, 2), (5, 5), (8, 8), (9, 8)] {
        let mut full = Full {
            room,
            interruptions: 2,
        };
        let (count, result) = put(&mut full, b"one\ntwo\n");
        assert_eq!((count, result.is_ok()), (written, written == 8), "{room}");
    }
}

#[test]
fn the_beginning_of_a_line_that_a_failed_write_has_left_is_cut_off() {
    for (before, written, later, kept, left) in [
        ("zero\n", "one\ntw", "", 4, "zero\none\n"),
        ("zero\n", "on", "", 0, "zero\n"),
        ("zero\n", "one\n", "", 4, "zero\none\n"),
        ("ze", "ro\non", "", 3, "zero\n"),
        // What others have written behind it stays.
        ("zero\n", "one\ntw", "x", 6, "zero\none\ntwx"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, before).unwrap();
        let mut open = Open::of(super::open(&path, 0o640).unwrap(), &path).unwrap();
        let place = open.place(0);
        open.file.write_all(written.as_bytes()).unwrap();
        open.file.write_all(later.as_bytes()).unwrap();
        let stays = open.keep_whole(&place, written.as_bytes());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((stays, text.as_str()), (kept, left), "{written:?}");
    }
}

#[test]
fn what_comes_after_a_cut_line_begins_a_line() {
    let mut it = fixture(1000, false);
    it.append(b"one\ntw");
    it.file.is_torn = true;
    it.append(b"three\n");
    assert!(!it.file.is_torn);
    // Where others have made an end of it there is nothing to do.
    it.file.is_torn = true;
    it.append(b"four\n");
    assert_eq!(it.files(), [b"one\ntw\nthree\nfour\n"]);
}

#[test]
fn what_could_not_be_opened_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let mut file = LogFile::new(dir.path().join("file/x.log"), 0o640);
    let unstored = file.append(b"one\n", None, &mut |_| {}).unwrap_err();
    assert_eq!(
        (unstored.done, unstored.error.kind()),
        (0, ErrorKind::NotADirectory)
    );
}
