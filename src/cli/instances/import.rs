//! `mcpm instances import`: instances of another system, from a file.
//!
//! The file is gone through twice: first the daemon is asked what it would say to each row, and only
//! when nothing is wrong, or mistakes are to be left out, the rows are added. What is there already is
//! left alone, so that an import that was broken off is simply begun again.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use zeroize::Zeroizing;

use super::rows::{Row, Rows, rows};
use crate::api::List;
use crate::api::import::{ImportRequest, ImportRow, ImportState, ImportedRow, ROWS_MAX};
use crate::cli::exit::Exit;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::style::tame;
use crate::control::client::Client;

/// Largest file, in bytes: it is held in memory, so that both times it is the same.
const FILE_MAX: u64 = 512 * 1024 * 1024;
/// A call holds no more than this of the file, in bytes, but at least one row.
const CALL_MAX: usize = 4 * 1024 * 1024;
/// Mistakes that are told; more are counted.
const MISTAKES_TOLD: usize = 20;
/// Progress is told after so many rows.
const PROGRESS_EVERY: u64 = 10_000;

/// Arguments of `instances import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// JSON lines, or CSV with a header: user, service, api_key or the service's own fields, and
    /// perhaps alias (the old instance id), label, expires_at, created_at; `-` is stdin
    file: PathBuf,
    /// Add the users that are missing
    #[arg(long)]
    add_users: bool,
    /// Leave out rows with mistakes, and import the others
    #[arg(long)]
    skip_bad: bool,
    /// Write old and new ids here where an old id is too easy to guess to go on (CSV, mode 0600)
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

/// How many rows of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    /// Added, or to be added.
    added: u64,
    /// There already.
    existed: u64,
    /// Of those, with another URL than the file says.
    other_url: u64,
    /// With a mistake.
    refused: u64,
    /// Of those that were added or there, with another id than in the file.
    new_ids: u64,
}

/// Checks, then adds.
pub(super) async fn run(
    args: &Args,
    daemon: &mut Client,
    session: &Session,
) -> anyhow::Result<Exit> {
    let output = &session.output;
    let text = read(&args.file)?;
    let shown = args.file.display();
    let open = || rows(&text).map_err(|why| anyhow::anyhow!("cannot import `{shown}`: {why}"));

    let mut check = Pass::new(output, "checked");
    check.run(open()?, args, true, daemon).await?;
    let Pass { bad, counts, .. } = check;
    if counts == Counts::default() {
        bail!("cannot import `{shown}`: it holds no rows");
    }
    if !bad.is_empty() && !args.skip_bad {
        bail!(
            "nothing was imported, since {}",
            mistakes_in(&shown, bad.len())
        );
    }
    if args.dry_run {
        told(&counts, "would be imported", args, output)?;
        return Ok(Exit::fine_if(bad.is_empty()));
    }
    if counts.new_ids > 0 && args.mapping.is_none() {
        bail!("nothing was imported: {}", too_easy_ids(counts.new_ids));
    }

    let mut add = Pass::new(output, "imported");
    add.bad = bad;
    add.mapping = args.mapping.as_deref().map(Mapping::create).transpose()?;
    let added = add.run(open()?, args, false, daemon).await;
    let counts = add.counts;
    if let Err(error) = added {
        let were = if counts.added == 1 { "was" } else { "were" };
        output.warning(format_args!(
            "{} {were} imported before; the same command imports the rest",
            counts.added
        ));
        return Err(error);
    }
    if let Some(mapping) = add.mapping {
        mapping.close()?;
    }
    told(&counts, "imported", args, output)?;
    Ok(Exit::fine_if(counts.refused == 0))
}

/// What is wrong with a file, and what to do.
fn mistakes_in(shown: &impl Display, lines: usize) -> String {
    match lines {
        1 => {
            format!("1 line of `{shown}` has a mistake: mend it, or leave it out with `--skip-bad`")
        }
        lines => format!(
            "{lines} lines of `{shown}` have mistakes: mend them, or leave them out with `--skip-bad`"
        ),
    }
}

/// Why new ids are not given out unseen.
fn too_easy_ids(lines: u64) -> String {
    let (whose, new) = match lines {
        1 => (
            "the old id of 1 line is".to_owned(),
            "its instance would get a new one",
        ),
        lines => (
            format!("the old ids of {lines} lines are"),
            "their instances would get new ones",
        ),
    };
    format!(
        "{whose} too easy to guess to go on here, and {new}: name a file that tells which with \
         `--mapping FILE` (it will hold secrets)"
    )
}

/// What has become of all.
fn told(counts: &Counts, done: &str, args: &Args, output: &Output) -> anyhow::Result<()> {
    if args.json {
        return output.json(counts);
    }
    output.line(format_args!("✓ {done}: {}", counts.added))?;
    if counts.existed > 0 {
        output.line(format_args!(
            "  were there already: {} ({} of them with another URL than the file says)",
            counts.existed, counts.other_url
        ))?;
    }
    if counts.new_ids > 0 {
        output.line(format_args!("  with a new id: {}", counts.new_ids))?;
    }
    if counts.refused > 0 {
        output.line(format_args!("  left out: {}", counts.refused))?;
    }
    Ok(())
}

/// The whole file, wiped when it is dropped.
fn read(file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = FILE_MAX + 1;
    let done = if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    done.with_context(|| format!("cannot read `{}`", file.display()))?;
    if bytes.len() as u64 > FILE_MAX {
        bail!(
            "`{}` has more than {} MiB; import it in parts",
            file.display(),
            FILE_MAX / (1024 * 1024)
        );
    }
    Ok(bytes)
}

/// Once through the file.
struct Pass<'a> {
    output: &'a Output,
    /// What is done to rows, for people.
    word: &'static str,
    /// Lines with mistakes.
    bad: BTreeSet<u64>,
    mistakes: usize,
    counts: Counts,
    /// Rows that were answered.
    rows: u64,
    mapping: Option<Mapping>,
    /// Where each user and service, and each old id, was seen first, by hash.
    seen: HashMap<u64, u64>,
    state: RandomState,
}

/// Rows of one call.
#[derive(Default)]
struct Batch {
    lines: Vec<Origin>,
    rows: Vec<ImportRow>,
    size: usize,
}

/// Where a row comes from.
struct Origin {
    line: u64,
    user: String,
    service: String,
    alias: Zeroizing<String>,
}

impl<'a> Pass<'a> {
    fn new(output: &'a Output, word: &'static str) -> Self {
        Self {
            output,
            word,
            bad: BTreeSet::new(),
            mistakes: 0,
            counts: Counts::default(),
            rows: 0,
            mapping: None,
            seen: HashMap::new(),
            state: RandomState::new(),
        }
    }

    async fn run(
        &mut self,
        rows: Rows<'_>,
        args: &Args,
        dry_run: bool,
        daemon: &mut Client,
    ) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        for Row { line, size, read } in rows {
            if self.bad.contains(&line) {
                self.counts.refused += 1;
                continue;
            }
            let row = match read.and_then(|row| self.first_of_its_kind(line, row)) {
                Ok(row) => row,
                Err(why) => {
                    self.refuse(line, &why);
                    continue;
                }
            };
            if batch.rows.len() == ROWS_MAX || batch.size + size > CALL_MAX {
                self.send(std::mem::take(&mut batch), args, dry_run, daemon)
                    .await?;
            }
            batch.push(line, size, row);
        }
        self.send(batch, args, dry_run, daemon).await?;
        Ok(())
    }

    /// A row that the file has not said before.
    fn first_of_its_kind(&mut self, line: u64, row: ImportRow) -> Result<ImportRow, String> {
        let owner = self.state.hash_one((&row.user, &row.service));
        if let Some(first) = self.seen.insert(owner, line) {
            return Err(format!("its user and service are those of line {first}"));
        }
        if let Some(alias) = &row.alias {
            let alias = self.state.hash_one(("alias", alias));
            if let Some(first) = self.seen.insert(alias, line) {
                return Err(format!("its old instance id is that of line {first}"));
            }
        }
        Ok(row)
    }

    fn refuse(&mut self, line: u64, why: &str) {
        self.counts.refused += 1;
        self.bad.insert(line);
        self.mistakes += 1;
        if self.mistakes <= MISTAKES_TOLD {
            self.output
                .failed(format_args!("line {line}: {}", tame(why)));
        } else if self.mistakes == MISTAKES_TOLD + 1 {
            self.output.failed("further mistakes are not told");
        }
    }

    async fn send(
        &mut self,
        batch: Batch,
        args: &Args,
        dry_run: bool,
        daemon: &mut Client,
    ) -> anyhow::Result<()> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        let request = ImportRequest {
            rows: batch.rows,
            add_users: args.add_users,
            dry_run,
        };
        let path = "/api/v1/admin/instances/import";
        let answers: List<ImportedRow> = daemon.post(path, &request).await?;
        if answers.items.len() != batch.lines.len() {
            bail!("the daemon has not answered for each row; is it of another version?");
        }
        for (origin, answer) in batch.lines.iter().zip(&answers.items) {
            self.take(origin, answer)?;
        }
        if let Some(mapping) = &mut self.mapping {
            mapping.flush()?;
        }
        let before = self.rows / PROGRESS_EVERY;
        self.rows += batch.lines.len() as u64;
        if self.rows / PROGRESS_EVERY > before {
            let (word, rows) = (self.word, self.rows);
            self.output.hint(format_args!("{word} {rows} rows"));
        }
        Ok(())
    }

    fn take(&mut self, origin: &Origin, answer: &ImportedRow) -> anyhow::Result<()> {
        match answer.state {
            ImportState::Added => self.counts.added += 1,
            ImportState::Exists => self.counts.existed += 1,
            ImportState::OtherUrl => {
                self.counts.existed += 1;
                self.counts.other_url += 1;
            }
            ImportState::Refused => {
                let why = answer.error.as_deref().unwrap_or("it was refused");
                self.refuse(origin.line, why);
                return Ok(());
            }
        }
        if answer.alias_refused.is_some() {
            self.counts.new_ids += 1;
        }
        match (&mut self.mapping, &answer.instance_id, &answer.instance_url) {
            (Some(mapping), Some(id), Some(url)) => {
                let why = answer.alias_refused.as_deref().unwrap_or_default();
                mapping.add(origin, id, url, why)
            }
            _ => Ok(()),
        }
    }
}

impl Batch {
    fn push(&mut self, line: u64, size: usize, row: ImportRow) {
        self.lines.push(Origin {
            line,
            user: row.user.clone(),
            service: row.service.clone(),
            alias: Zeroizing::new(row.alias.clone().unwrap_or_default()),
        });
        self.rows.push(row);
        self.size += size;
    }
}

/// The file of old and new ids.
struct Mapping {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl Mapping {
    /// A new file that nobody else can read: one that is there may be somebody's only copy.
    fn create(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(path).with_context(|| {
            format!(
                "cannot make `{}`, where old and new ids go; it must not be there yet (the mapping is \
                 written whole, with what an earlier import has added)",
                path.display()
            )
        })?;
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(["user", "service", "old_id", "new_id", "new_url", "reason"])?;
        Ok(Self {
            path: path.to_owned(),
            writer,
        })
    }

    fn add(&mut self, origin: &Origin, id: &str, url: &str, why: &str) -> anyhow::Result<()> {
        let Origin {
            user,
            service,
            alias,
            ..
        } = origin;
        let record = [
            user.as_str(),
            service.as_str(),
            alias.as_str(),
            id,
            url,
            why,
        ];
        Ok(self.writer.write_record(record)?)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let done = self.writer.flush();
        done.with_context(|| format!("cannot write `{}`", self.path.display()))
    }

    /// Done when it is on disk.
    fn close(mut self) -> anyhow::Result<()> {
        self.flush()?;
        let done = self.writer.get_ref().sync_all();
        done.with_context(|| format!("cannot write `{}`", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn row(user: &str, service: &str, alias: Option<&str>) -> ImportRow {
        let mut row = serde_json::json!({ "user": user, "service": service });
        row["alias"] = alias.into();
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn what_the_file_says_twice_is_a_mistake() {
        let output = Output::new(true, true);
        let mut pass = Pass::new(&output, "checked");
        let mut check = |line, row| pass.first_of_its_kind(line, row).err();
        assert_eq!(check(1, row("a", "x", Some("id"))), None);
        assert_eq!(check(2, row("a", "y", None)), None);
        assert_eq!(check(3, row("ax", "", None)), None);
        let again = check(4, row("a", "x", None)).unwrap();
        assert!(again.contains("line 1"), "{again}");
        let again = check(5, row("b", "x", Some("id"))).unwrap();
        assert!(again.contains("line 1") && again.contains("old"), "{again}");
    }

    #[test]
    fn one_line_is_spoken_of_as_one() {
        let mistakes = |lines| mistakes_in(&"f.csv", lines);
        assert!(mistakes(1).starts_with("1 line of `f.csv` has a mistake: mend it, or leave it"));
        assert!(
            mistakes(2).starts_with("2 lines of `f.csv` have mistakes: mend them, or leave them")
        );
        assert!(too_easy_ids(1).starts_with("the old id of 1 line is too easy to guess"));
        assert!(too_easy_ids(1).contains("and its instance would get a new one: name a file"));
        assert!(too_easy_ids(3).starts_with("the old ids of 3 lines are too easy to guess"));
    }

    #[test]
    fn the_mapping_is_its_owners_alone_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.csv");
        let origin = Origin {
            line: 2,
            user: "a,b".to_owned(),
            service: "figma".to_owned(),
            alias: Zeroizing::new("7".to_owned()),
        };
        let mut mapping = Mapping::create(&path).unwrap();
        mapping
            .add(&origin, "fig_new", "http://x/fig_new/figma", "it is short")
            .unwrap();
        mapping.close().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = "user,service,old_id,new_id,new_url,reason\n\
                        \"a,b\",figma,7,fig_new,http://x/fig_new/figma,it is short\n";
        assert_eq!(text, expected);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Mapping::create(&path).is_err());
    }
}
