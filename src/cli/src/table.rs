//! Tables as kubectl prints them.

use comfy_table::{ContentArrangement, Table as Grid, presets::NOTHING};

use crate::human::printable;

/// Spaces between two columns.
const GAP: u16 = 3;

/// A table without borders.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: impl IntoIterator<Item = &'static str>) -> Self {
        Self { header: header.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, the header first.
    pub fn lines(&self) -> Vec<String> {
        let mut grid = Grid::new();
        grid.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(&self.header).add_rows(&self.rows);
        for column in grid.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        grid.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// The widths that the columns need.
    pub fn widths(&self) -> Vec<usize> {
        let width =
            |at: usize| self.rows.iter().filter_map(move |row| row.get(at)).map(|cell| cell.chars().count());
        let columns = self.header.iter().enumerate();
        columns.map(|(at, title)| width(at).max().unwrap_or(0).max(title.len())).collect()
    }
}

/// One more row under a table that is printed already.
pub fn aligned(cells: &[String], widths: &[usize]) -> String {
    let gap = usize::from(GAP);
    let padded =
        cells.iter().zip(widths).map(|(cell, width)| format!("{:<1$}", printable(cell), width + gap));
    padded.collect::<String>().trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(["NAME", "PHASE", "FROM"]);
        table.row(["a-long-name", "Running", ""].map(String::from));
        table.row(["b", "Stopped", "api"].map(String::from));
        let lines = ["NAME          PHASE     FROM", "a-long-name   Running", "b             Stopped   api"];
        assert_eq!(table.lines(), lines);
        let row = ["c", "Running", "api"].map(String::from);
        assert_eq!(aligned(&row, &table.widths()), "c             Running   api");
    }
}
