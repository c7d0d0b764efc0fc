//! Tables in boxes, as PM2's users know them. Pure.
//!
//! Own code because PM2's columns have fixed widths with what is too long cut to `…`, and colours
//! inside: the table crates wrap instead, and colour only with a terminal library behind them.

use super::style::{Paint, Palette, cut, pad, tame, width};

/// One column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    title: &'static str,
    /// Columns of text without the two of padding; `None` takes what the longest text needs.
    room: Option<usize>,
}

impl Column {
    /// As wide as its longest text.
    pub(crate) fn fit(title: &'static str) -> Self {
        Self { title, room: None }
    }

    /// So wide, padding included.
    pub(crate) fn fixed(title: &'static str, wide: usize) -> Self {
        Self {
            title,
            room: Some(wide.saturating_sub(2)),
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

    /// The table, its last line ended. The header is left out when no column has a title.
    pub(crate) fn render(&self, palette: Palette) -> String {
        let rooms: Vec<usize> = (0..self.columns.len()).map(|at| self.room(at)).collect();
        let titled = self.columns.iter().any(|column| !column.title.is_empty());
        let mut text = rule(&rooms, ['┌', '┬', '┐']);
        if titled {
            let titles = self
                .columns
                .iter()
                .map(|column| Cell::painted(column.title, Paint::Head));
            text += &line(&titles.collect::<Vec<_>>(), &rooms, palette);
        }
        if titled && !self.rows.is_empty() {
            text += &rule(&rooms, ['├', '┼', '┤']);
        }
        for row in &self.rows {
            text += &line(row, &rooms, palette);
        }
        text + &rule(&rooms, ['└', '┴', '┘'])
    }

    fn room(&self, at: usize) -> usize {
        let column = &self.columns[at];
        let longest = || {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            cells
                .map(|cell| width(&cell.text))
                .max()
                .unwrap_or(0)
                .max(width(column.title))
        };
        column.room.unwrap_or_else(longest)
    }
}

fn rule(rooms: &[usize], [left, middle, right]: [char; 3]) -> String {
    let mut text = String::from(left);
    for (at, room) in rooms.iter().enumerate() {
        if at > 0 {
            text.push(middle);
        }
        text.extend(std::iter::repeat_n('─', room + 2));
    }
    text.push(right);
    text.push('\n');
    text
}

fn line(cells: &[Cell], rooms: &[usize], palette: Palette) -> String {
    let mut text = String::from("│");
    for (cell, &room) in cells.iter().zip(rooms) {
        let shown = pad(&cut(&cell.text, room), room);
        text.push(' ');
        match cell.paint {
            Some(paint) => text += &palette.paint(paint, &shown),
            None => text += &shown,
        }
        text += " │";
    }
    text.push('\n');
    text
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

    #[test]
    fn colour_does_not_change_widths() {
        let mut grid = Grid::new(vec![Column::fixed("s", 8)]);
        grid.row(vec![Cell::painted("up", Paint::Good)]);
        let coloured = grid.render(Palette { on: true });
        assert!(coloured.contains("\x1b[32mup    \x1b[0m"), "{coloured:?}");
    }
}
