//! Tables in boxes, as PM2's users know them. Pure.
//!
//! One mechanism for narrow terminals: columns that matter least are left out, then the widest are cut or
//! go on in the next line, since a row that the terminal breaks cannot be read.
//!
//! Own code because PM2's columns have fixed widths with what is too long cut to `…`, and colours
//! inside: the table crates wrap instead, and colour only with a terminal library behind them.

use std::borrow::Cow;

use super::style::{Paint, Palette, cut, push_padded, tame, width, wrap};

/// As short as a text is cut where columns are few: a date, and the sign that more is there.
const CUT_MIN: usize = 11;
/// As narrow as a column gets whose texts are broken over lines.
const WRAP_MIN: usize = 20;

/// One column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    title: &'static str,
    room: Room,
    /// Left out where there is no room, the highest first; 0 stays.
    minor: u8,
}

/// How wide a column is, without the two of padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// As its longest text; where the terminal is narrower, texts are cut.
    Fit,
    /// As its longest text, always: numbers and words that say nothing when they are cut.
    Whole,
    /// As its longest text; where the terminal is narrower, texts go on in the next line.
    Wrapped,
    Fixed(usize),
}

impl Column {
    /// As wide as its longest text, which may be cut.
    pub(crate) fn fit(title: &'static str) -> Self {
        Self::new(title, Room::Fit)
    }

    /// As wide as its longest text, which must not be cut.
    pub(crate) fn whole(title: &'static str) -> Self {
        Self::new(title, Room::Whole)
    }

    /// As wide as its longest text, which may be broken over several lines.
    pub(crate) fn wrapped(title: &'static str) -> Self {
        Self::new(title, Room::Wrapped)
    }

    /// So wide, padding included.
    pub(crate) fn fixed(title: &'static str, wide: usize) -> Self {
        Self::new(title, Room::Fixed(wide.saturating_sub(2)))
    }

    /// May be left out where there is no room, the highest rank first.
    pub(crate) fn minor(self, rank: u8) -> Self {
        Self {
            minor: rank,
            ..self
        }
    }

    fn new(title: &'static str, room: Room) -> Self {
        Self {
            title,
            room,
            minor: 0,
        }
    }
}

/// One text of a row.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Option<Paint>,
}

impl Cell {
    /// In the terminal's own colour.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: tame(text.as_ref()),
            paint: None,
        }
    }

    /// In a colour.
    pub(crate) fn painted(text: impl AsRef<str>, paint: Paint) -> Self {
        Self {
            text: tame(text.as_ref()),
            paint: Some(paint),
        }
    }
}

/// A table: rows of as many cells as there are columns.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    /// No rows yet.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds one at the bottom.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// Names and values: two columns without titles.
    pub(crate) fn facts() -> Self {
        Self::new(vec![Column::whole(""), Column::wrapped("")])
    }

    /// The table, as wide as it needs to be, its last line ended. The header is left out when no
    /// column has a title.
    pub(crate) fn render(&self, palette: Palette) -> String {
        self.render_within(None, palette)
    }

    /// The table for so many columns of a terminal (`None`: not a terminal, all there is). What does
    /// not fit even when it is cut and left out is wider than the terminal.
    pub(crate) fn render_within(&self, columns: Option<usize>, palette: Palette) -> String {
        let shown = self.shown(columns);
        let rooms: Vec<usize> = shown.iter().map(|(_, room)| *room).collect();
        let titled = self.columns.iter().any(|column| !column.title.is_empty());
        let mut text = String::new();
        rule(&mut text, &rooms, ['┌', '┬', '┐']);
        if titled {
            let title = |&(at, room): &(usize, usize)| Shown {
                paint: Some(Paint::Head),
                text: Text::One(cut(self.columns[at].title, room)),
                room,
            };
            let titles: Vec<_> = shown.iter().map(title).collect();
            lines(&mut text, &titles, palette);
        }
        if titled && !self.rows.is_empty() {
            rule(&mut text, &rooms, ['├', '┼', '┤']);
        }
        for row in &self.rows {
            let cell = |&(at, room): &(usize, usize)| {
                let Cell { text, paint } = &row[at];
                let text = match self.columns[at].room {
                    Room::Wrapped => Text::Many(wrap(text, room)),
                    Room::Fit | Room::Whole | Room::Fixed(_) => Text::One(cut(text, room)),
                };
                let paint = *paint;
                Shown { paint, text, room }
            };
            let cells: Vec<_> = shown.iter().map(cell).collect();
            lines(&mut text, &cells, palette);
        }
        rule(&mut text, &rooms, ['└', '┴', '┘']);
        text
    }

    /// Which columns are shown, and how wide: first the minor ones go, until the others fit when they
    /// are cut; then the widest are cut.
    fn shown(&self, columns: Option<usize>) -> Vec<(usize, usize)> {
        let mut shown: Vec<(usize, usize)> = (0..self.columns.len())
            .map(|at| (at, self.room(at)))
            .collect();
        let Some(columns) = columns else {
            return shown;
        };
        let least = |&(at, room): &(usize, usize)| match self.columns[at].room {
            Room::Fit => room.min(CUT_MIN),
            Room::Wrapped => room.min(WRAP_MIN),
            Room::Whole | Room::Fixed(_) => room,
        };
        while wide(shown.iter().map(least)) > columns {
            let minor = |at: usize| self.columns[shown[at].0].minor;
            let Some(first) = (0..shown.len()).max_by_key(|&at| minor(at)) else {
                break;
            };
            if minor(first) == 0 {
                break;
            }
            shown.remove(first);
        }
        while wide(shown.iter().map(|(_, room)| *room)) > columns {
            let cuttable = shown.iter_mut().filter(|column| least(column) < column.1);
            let Some(widest) = cuttable.max_by_key(|column| column.1) else {
                break;
            };
            widest.1 -= 1;
        }
        shown
    }

    fn room(&self, at: usize) -> usize {
        let column = &self.columns[at];
        let longest = || {
            let texts = self.rows.iter().map(|row| width(&row[at].text));
            texts.max().unwrap_or(0).max(width(column.title))
        };
        match column.room {
            Room::Fixed(room) => room,
            Room::Fit | Room::Whole | Room::Wrapped => longest(),
        }
    }
}

/// A table whose columns have these rooms: two of padding and a border for each, and the last border.
fn wide(rooms: impl Iterator<Item = usize>) -> usize {
    rooms.map(|room| room + 3).sum::<usize>() + 1
}

fn rule(text: &mut String, rooms: &[usize], [left, middle, right]: [char; 3]) {
    text.push(left);
    for (at, room) in rooms.iter().enumerate() {
        if at > 0 {
            text.push(middle);
        }
        text.extend(std::iter::repeat_n('─', room + 2));
    }
    text.push(right);
    text.push('\n');
}

/// A cell as it is shown.
struct Shown<'a> {
    paint: Option<Paint>,
    text: Text<'a>,
    room: usize,
}

enum Text<'a> {
    One(Cow<'a, str>),
    Many(Vec<String>),
}

impl Text<'_> {
    fn line(&self, at: usize) -> Option<&str> {
        match self {
            Self::One(text) => (at == 0).then_some(text),
            Self::Many(lines) => lines.get(at).map(String::as_str),
        }
    }
}

/// One row, of as many lines as its longest cell.
fn lines(text: &mut String, cells: &[Shown<'_>], palette: Palette) {
    let mut at = 0;
    while at == 0 || cells.iter().any(|cell| cell.text.line(at).is_some()) {
        text.push('│');
        for cell in cells {
            let line = cell.text.line(at).unwrap_or_default();
            text.push(' ');
            palette.painted(cell.paint, text, |text| push_padded(text, line, cell.room));
            text.push_str(" │");
        }
        text.push('\n');
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_or_cut() {
        let mut grid = Grid::new(vec![Column::fixed("id", 4), Column::fit("name")]);
        grid.row(vec![Cell::new("123"), Cell::new("日本")]);
        let expected = "\
            ┌────┬──────┐\n\
            │ id │ name │\n\
            ├────┼──────┤\n\
            │ 1… │ 日本 │\n\
            └────┴──────┘\n";
        assert_eq!(grid.render(Palette::PLAIN), expected);
    }

    #[test]
    fn an_empty_table_is_header_and_border() {
        let grid = Grid::new(vec![Column::fit("id")]);
        assert_eq!(grid.render(Palette::PLAIN), "┌────┐\n│ id │\n└────┘\n");
    }

    #[test]
    fn without_titles_there_is_no_header() {
        let mut grid = Grid::new(vec![Column::fit(""), Column::fit("")]);
        grid.row(vec![Cell::new("a"), Cell::new("b")]);
        assert_eq!(
            grid.render(Palette::PLAIN),
            "┌───┬───┐\n│ a │ b │\n└───┴───┘\n"
        );
    }

    fn sample() -> Grid {
        let mut grid = Grid::new(vec![
            Column::whole("id"),
            Column::fit("name"),
            Column::fit("made").minor(2),
            Column::fit("used").minor(1),
        ]);
        grid.row(vec![
            Cell::new("ins_aaaabbbbcccc"),
            Cell::new("a-long-name-of-somebody"),
            Cell::new("2026-11-22T23:49:07Z"),
            Cell::new("never"),
        ]);
        grid
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_first_and_then_leaves_out_what_is_minor() {
        let within = |columns| sample().render_within(Some(columns), Palette::PLAIN);
        let whole = sample().render(Palette::PLAIN);
        assert_eq!(within(77), whole);
        let row = |columns| within(columns).lines().nth(3).unwrap().to_owned();
        assert_eq!(
            row(66),
            "│ ins_aaaabbbbcccc │ a-long-name-of-… │ 2026-11-22T23:4… │ never │"
        );
        assert_eq!(
            row(56),
            "│ ins_aaaabbbbcccc │ a-long-nam… │ 2026-11-22… │ never │"
        );
        assert_eq!(
            row(55),
            "│ ins_aaaabbbbcccc │ a-long-name-of-somebody │ never │"
        );
        assert_eq!(row(34), "│ ins_aaaabbbbcccc │ a-long-nam… │");
        assert_eq!(row(1), row(34), "never shorter than it can be read");
    }

    #[test]
    fn facts_go_on_in_the_next_line() {
        let mut grid = Grid::facts();
        grid.row(vec![
            Cell::new("script"),
            Cell::new("/srv/a/very/long/path/app.js"),
        ]);
        grid.row(vec![
            Cell::new("why"),
            Cell::new("it does not come up any more"),
        ]);
        let expected = "\
            ┌────────┬──────────────────────┐\n\
            │ script │ /srv/a/very/long/pat │\n\
            │        │ h/app.js             │\n\
            │ why    │ it does not come up  │\n\
            │        │ any more             │\n\
            └────────┴──────────────────────┘\n";
        assert_eq!(grid.render_within(Some(33), Palette::PLAIN), expected);
        assert_eq!(grid.render_within(None, Palette::PLAIN).lines().count(), 4);
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_while_there_is_anything_to_cut(
            texts in proptest::collection::vec(".{0,60}", 4),
            columns in 60usize..200,
        ) {
            let mut grid = Grid::new(vec![
                Column::fit("one"),
                Column::wrapped("two"),
                Column::fit("three").minor(1),
                Column::fit("four"),
            ]);
            grid.row(texts.iter().map(Cell::new).collect());
            for line in grid.render_within(Some(columns), Palette::PLAIN).lines() {
                proptest::prop_assert!(width(line) <= columns, "{}", line);
            }
        }
    }

    #[test]
    fn colour_does_not_change_widths() {
        let mut grid = Grid::new(vec![Column::fixed("s", 8)]);
        grid.row(vec![Cell::painted("up", Paint::Good)]);
        let coloured = grid.render(Palette { on: true });
        assert!(coloured.contains("\x1b[32mup    \x1b[0m"), "{coloured:?}");
    }
}
