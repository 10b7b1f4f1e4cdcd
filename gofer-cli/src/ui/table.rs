//! Columns: aligned rows, and names side by side as `ls` shows them.

/// A cell that may hold any bytes and colour codes.
#[derive(Clone, Default, Debug)]
pub struct Cell {
    bytes: Vec<u8>,
    width: usize,
}

impl Cell {
    /// A cell whose text is what is seen.
    pub fn new(text: impl Into<Vec<u8>>) -> Cell {
        let bytes = text.into();
        Cell {
            width: width(&bytes),
            bytes,
        }
    }

    /// A cell that shows `plain` although its bytes hold colour codes too.
    pub fn painted(bytes: Vec<u8>, plain: &[u8]) -> Cell {
        Cell {
            bytes,
            width: width(plain),
        }
    }
}

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Align {
    Left,
    Right,
}

/// Columns a text takes: one for each character, roughly right for most scripts.
fn width(bytes: &[u8]) -> usize {
    let chunks = bytes.utf8_chunks();
    chunks
        .map(|chunk| chunk.valid().chars().count() + chunk.invalid().len())
        .sum()
}

/// Lines up `rows`; the last column is not padded.
pub fn rows(align: &[Align], rows: &[Vec<Cell>]) -> Vec<u8> {
    let mut widths = vec![0; align.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width.max(*width);
        }
    }
    let mut out = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            if column > 0 {
                out.push(b' ');
            }
            let gap = widths
                .get(column)
                .copied()
                .unwrap_or(0)
                .saturating_sub(cell.width);
            let right = align.get(column) == Some(&Align::Right);
            if right {
                out.resize(out.len() + gap, b' ');
            }
            out.extend_from_slice(&cell.bytes);
            if !right && column + 1 < row.len() {
                out.resize(out.len() + gap, b' ');
            }
        }
        while out.last() == Some(&b' ') {
            out.pop();
        }
        out.push(b'\n');
    }
    out
}

/// Sets `cells` in as many columns as fit into `line` characters, down before across.
pub fn columns(cells: &[Cell], line: usize) -> Vec<u8> {
    const GAP: usize = 2;
    let layout = |lines: usize| -> Vec<usize> {
        let columns = cells.chunks(lines);
        columns
            .map(|column| column.iter().map(|cell| cell.width).max().unwrap_or(0))
            .collect()
    };
    let fits = |widths: &[usize]| {
        let total: usize = widths.iter().map(|width| width + GAP).sum();
        total.saturating_sub(GAP) <= line
    };
    // The first guess is a lower bound: no line holds more than fit with the narrowest cell.
    let narrowest = cells.iter().map(|cell| cell.width).min().unwrap_or(0) + GAP;
    let most = ((line + GAP) / narrowest.max(1)).max(1);
    let mut lines = cells.len().div_ceil(most).max(1);
    while lines < cells.len() && !fits(&layout(lines)) {
        // With thousands of cells a line at a time would be slow.
        lines += (lines / 16).max(1);
    }
    let widths = layout(lines.max(1));
    let mut out = Vec::new();
    for index in 0..lines.min(cells.len()) {
        let in_line: Vec<&Cell> = cells.iter().skip(index).step_by(lines).collect();
        for (column, cell) in in_line.iter().enumerate() {
            out.extend_from_slice(&cell.bytes);
            if column + 1 < in_line.len() {
                let gap = widths.get(column).copied().unwrap_or(0) + GAP - cell.width;
                out.resize(out.len() + gap, b' ');
            }
        }
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[&str]) -> Vec<Cell> {
        texts.iter().map(|text| Cell::new(*text)).collect()
    }

    #[test]
    fn rows_line_up_and_leave_no_trailing_blanks() {
        let table = rows(
            &[Align::Left, Align::Right, Align::Left],
            &[cells(&["a", "1", "x"]), cells(&["bcd", "22", ""])],
        );
        assert_eq!(String::from_utf8(table).unwrap(), "a    1 x\nbcd 22\n");
    }

    #[test]
    fn columns_go_down_before_across() {
        let set = columns(&cells(&["a", "bb", "ccc", "d", "e"]), 12);
        assert_eq!(String::from_utf8(set).unwrap(), "a   ccc  e\nbb  d\n");
    }

    #[test]
    fn a_narrow_terminal_gets_one_name_a_line() {
        let set = columns(&cells(&["long-name", "x"]), 3);
        assert_eq!(String::from_utf8(set).unwrap(), "long-name\nx\n");
        assert!(columns(&[], 80).is_empty());
    }

    #[test]
    fn colour_takes_no_room() {
        let painted = Cell::painted(b"\x1b[1ma\x1b[0m".to_vec(), b"a");
        let set = columns(&[painted, Cell::new("b")], 4);
        assert_eq!(set, b"\x1b[1ma\x1b[0m  b\n");
    }
}
