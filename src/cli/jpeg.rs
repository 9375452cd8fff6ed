//! Whether a JPEG file is whole: decoders fill in what is missing with grey, and a cut-off picture would be learnt as a good one.
//!
//! The file is walked from its first marker to the end of the image, and every scan is read as far as it takes to count its blocks
//! (ITU-T T.81, annexes B, F and G): a scan has to hold data for each of them, and no more. What is in the blocks is the decoder's
//! matter. What follows the end of the image does not belong to it.

/// Components of a frame at most.
const COMPONENTS: usize = 4;
/// Coefficients of a block.
const BLOCK: usize = 64;

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the file is cut off: it has no end of image")]
    Cut,
    #[error("the file is damaged: the image data end after {} % of a scan", 100 * done / all)]
    Short { done: usize, all: usize },
    #[error("the file is damaged: {0}")]
    Other(&'static str),
}

/// Walks through the file.
///
/// # Errors
/// What is missing or superfluous. A file that another process than Huffman's codes is let pass: the decoder refuses it.
pub fn check(bytes: &[u8]) -> Result<(), Damage> {
    let mut at = 2;
    let mut tables = Tables::default();
    let mut frame: Option<Frame> = None;
    loop {
        let marker = next_marker(bytes, &mut at)?;
        if marker == 0xd9 {
            return frame.map_or(Ok(()), |frame| frame.is_complete());
        }
        // Markers that stand alone.
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            continue;
        }
        let segment = segment(bytes, &mut at)?;
        match marker {
            0xc4 => tables.define(segment)?,
            0xdd => {
                let [high, low, ..] = *segment else {
                    return Err(Damage::Other("a restart interval is too short"));
                };
                tables.restart_interval = u16::from_be_bytes([high, low]).into();
            }
            0xc0..=0xc2 => frame = Some(Frame::new(segment, marker == 0xc2)?),
            // Lossless, hierarchical or arithmetic.
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Ok(()),
            0xda => {
                let frame = frame
                    .as_mut()
                    .ok_or(Damage::Other("a scan comes before the frame's header"))?;
                let scan = Scan::new(segment, frame)?;
                scan.read(frame, &tables, bytes, &mut at)?;
            }
            _ => {}
        }
    }
}

/// The next marker's code; whatever is not one is skipped, as decoders do.
fn next_marker(bytes: &[u8], at: &mut usize) -> Result<u8, Damage> {
    loop {
        match bytes.get(*at..).unwrap_or_default() {
            [0xff, 0xff, ..] => *at += 1,
            [0xff, code, ..] if *code != 0 => {
                *at += 2;
                return Ok(*code);
            }
            [_, _, ..] => *at += 1,
            _ => return Err(Damage::Cut),
        }
    }
}

/// What a marker's segment holds.
fn segment<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Damage> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let [high, low, ..] = *rest else {
        return Err(Damage::Cut);
    };
    let length = usize::from(u16::from_be_bytes([high, low])).max(2);
    *at += length;
    rest.get(2..length).ok_or(Damage::Cut)
}

/// Codes by their lengths: of each length the first code, the place of its value, and how many there are.
#[derive(Default, Clone)]
struct Huffman {
    values: Vec<u8>,
    lengths: [(u32, u32, u32); 17],
    /// Length and value of the code that eight bits begin with; length 0: a longer one.
    short: Vec<(u8, u8)>,
}

impl Huffman {
    fn new(counts: &[u8], values: &[u8]) -> Self {
        let mut table = Self {
            values: values.to_vec(),
            lengths: [(0, 0, 0); 17],
            short: vec![(0, 0); 256],
        };
        let (mut code, mut place) = (0u32, 0u32);
        for (length, &count) in (1..=16).zip(counts) {
            table.lengths[length] = (code, place, count.into());
            if length <= 8 {
                for (index, &value) in values
                    .iter()
                    .skip(place as usize)
                    .take(count.into())
                    .enumerate()
                {
                    let first = (code as usize + index) << (8 - length);
                    let range = first.min(256)..(first + (1 << (8 - length))).min(256);
                    table.short[range].fill((length as u8, value));
                }
            }
            code = (code + u32::from(count)) << 1;
            place += u32::from(count);
        }
        table
    }
}

#[derive(Default)]
struct Tables {
    dc: [Option<Huffman>; COMPONENTS],
    ac: [Option<Huffman>; COMPONENTS],
    /// Blocks or groups of blocks between two restarts; 0: none.
    restart_interval: usize,
}

impl Tables {
    fn define(&mut self, mut segment: &[u8]) -> Result<(), Damage> {
        let short = Damage::Other("a table of codes is too short");
        while let Some((&class, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_at_checked(16).ok_or(short)?;
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, rest) = rest.split_at_checked(count).ok_or(short)?;
            let kind = if class >> 4 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            let slot = kind.get_mut(usize::from(class & 15)).ok_or(Damage::Other(
                "a table of codes has a number that there is not",
            ))?;
            *slot = Some(Huffman::new(counts, values));
            segment = rest;
        }
        Ok(())
    }
}

struct Component {
    id: u8,
    /// Blocks of the component in a group of interleaved blocks.
    sampling: (usize, usize),
    /// Columns and rows of blocks that a scan of this component alone has.
    blocks: (usize, usize),
    /// Columns of blocks with those that fill up the last group.
    columns: usize,
    /// Which coefficients of each block are known not to be zero; of progressive frames only.
    nonzero: Vec<u64>,
    /// The bit below which each coefficient is still to come; `None`: all of it is.
    low: [Option<u8>; BLOCK],
}

struct Frame {
    progressive: bool,
    /// Columns and rows of groups of interleaved blocks.
    groups: (usize, usize),
    components: Vec<Component>,
}

impl Frame {
    fn new(segment: &[u8], progressive: bool) -> Result<Self, Damage> {
        let wrong = Damage::Other("the frame's header is not one");
        let [_, h0, h1, w0, w1, count, rest @ ..] = segment else {
            return Err(wrong);
        };
        let height = usize::from(u16::from_be_bytes([*h0, *h1]));
        let width = usize::from(u16::from_be_bytes([*w0, *w1]));
        let count = usize::from(*count);
        if width == 0 || height == 0 || !(1..=COMPONENTS).contains(&count) || rest.len() < 3 * count
        {
            return Err(wrong);
        }
        let specified: Vec<(u8, usize, usize)> = rest
            .chunks_exact(3)
            .take(count)
            .map(|c| (c[0], usize::from(c[1] >> 4), usize::from(c[1] & 15)))
            .collect();
        if specified
            .iter()
            .any(|&(_, h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v))
        {
            return Err(wrong);
        }
        let most_h = specified.iter().map(|c| c.1).max().unwrap_or(1);
        let most_v = specified.iter().map(|c| c.2).max().unwrap_or(1);
        let groups = (width.div_ceil(8 * most_h), height.div_ceil(8 * most_v));
        let components = specified.into_iter().map(|(id, h, v)| {
            let (columns, rows) = (groups.0 * h, groups.1 * v);
            Component {
                id,
                sampling: (h, v),
                blocks: (
                    (width * h).div_ceil(8 * most_h),
                    (height * v).div_ceil(8 * most_v),
                ),
                columns,
                nonzero: vec![0; if progressive { columns * rows } else { 0 }],
                low: [None; BLOCK],
            }
        });
        Ok(Self {
            progressive,
            groups,
            components: components.collect(),
        })
    }

    /// Whether every component has come, and to the last bit what has begun: a progressive file may leave out fine detail, but a
    /// scan that others were to refine was not meant to be the last.
    fn is_complete(&self) -> Result<(), Damage> {
        let finished = |component: &Component| {
            component.low[0].is_some() && component.low.iter().flatten().all(|low| *low == 0)
        };
        match self.components.iter().all(finished) {
            true => Ok(()),
            false => Err(Damage::Other("scans are missing")),
        }
    }
}

/// A scan's header.
struct Scan {
    /// Places of the components in the frame, with the numbers of their tables.
    components: Vec<(usize, usize, usize)>,
    /// First and last coefficient.
    band: (usize, usize),
    /// The bit that has come before, if any, and the lowest one of this scan.
    high: u8,
    low: u8,
}

impl Scan {
    fn new(segment: &[u8], frame: &mut Frame) -> Result<Self, Damage> {
        let wrong = Damage::Other("a scan's header is not one");
        let (&count, rest) = segment.split_first().ok_or(wrong)?;
        let (selected, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(wrong)?;
        let [start, end, bits, ..] = *rest else {
            return Err(wrong);
        };
        let components = selected
            .chunks_exact(2)
            .map(|c| {
                let place = frame
                    .components
                    .iter()
                    .position(|component| component.id == c[0]);
                Ok((
                    place.ok_or(wrong)?,
                    usize::from(c[1] >> 4),
                    usize::from(c[1] & 15),
                ))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut scan = Self {
            components,
            band: (start.into(), end.into()),
            high: bits >> 4,
            low: bits & 15,
        };
        if !frame.progressive {
            (scan.band, scan.high, scan.low) = ((0, BLOCK - 1), 0, 0);
        }
        let (first, last) = scan.band;
        let alone = scan.components.len() == 1;
        let fits = last < BLOCK
            && first <= last
            && (!frame.progressive || (first == 0) == (last == 0))
            && (first == 0 || alone);
        if scan.components.is_empty() || !fits {
            return Err(wrong);
        }
        for &(place, ..) in &scan.components {
            frame.components[place].low[first..=last].fill(Some(scan.low));
        }
        Ok(scan)
    }

    /// Reads the scan's data up to the marker behind them.
    fn read(
        &self,
        frame: &mut Frame,
        tables: &Tables,
        bytes: &[u8],
        at: &mut usize,
    ) -> Result<(), Damage> {
        let mut bits = Bits::new(bytes, *at);
        let alone = self.components.len() == 1;
        let (columns, rows) = match alone {
            true => frame.components[self.components[0].0].blocks,
            false => frame.groups,
        };
        let all = columns * rows;
        let mut end_of_band = 0;
        for done in 0..all {
            if tables.restart_interval > 0 && done > 0 && done % tables.restart_interval == 0 {
                let number = (done / tables.restart_interval - 1) % 8;
                bits.restart(number as u8)?;
                end_of_band = 0;
            }
            let (column, row) = (done % columns, done / columns);
            for &(place, dc, ac) in &self.components {
                let component = &mut frame.components[place];
                let (h, v) = if alone { (1, 1) } else { component.sampling };
                let tables = (tables.dc.get(dc), tables.ac.get(ac));
                let tables = (
                    tables.0.and_then(Option::as_ref),
                    tables.1.and_then(Option::as_ref),
                );
                for index in 0..h * v {
                    let x = column * h + index % h;
                    let y = row * v + index / h;
                    if frame.progressive {
                        let block = component
                            .nonzero
                            .get_mut(y * component.columns + x)
                            .ok_or(Damage::Other("a scan is larger than the image"))?;
                        self.progressive_block(&mut bits, tables, block, &mut end_of_band)?;
                    } else {
                        sequential_block(&mut bits, tables)?;
                    }
                }
            }
            if bits.overread() {
                return Err(match bits.at < bytes.len() {
                    true => Damage::Short { done, all },
                    false => Damage::Cut,
                });
            }
        }
        *at = bits.end()?;
        Ok(())
    }

    fn progressive_block(
        &self,
        bits: &mut Bits<'_>,
        (dc, ac): (Option<&Huffman>, Option<&Huffman>),
        nonzero: &mut u64,
        end_of_band: &mut u32,
    ) -> Result<(), Damage> {
        let (first, last) = self.band;
        if first == 0 {
            if self.high == 0 {
                let length = bits.length(dc)?;
                bits.skip(length);
            } else {
                bits.skip(1);
            }
            return Ok(());
        }
        let refines = self.high != 0;
        // One bit more for each coefficient that is known not to be zero.
        let refine = |bits: &mut Bits<'_>, nonzero: u64, k: usize| {
            let known = refines && nonzero >> k & 1 == 1;
            if known {
                bits.skip(1);
            }
            known
        };
        let mut k = first;
        if *end_of_band == 0 {
            while k <= last {
                let symbol = bits.symbol(ac)?;
                let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
                if size == 0 && run < 15 {
                    *end_of_band = (1 << run) + bits.take(run);
                    break;
                }
                bits.skip(size);
                // Skips zeros, and refines what is between them.
                while k <= last {
                    if !refine(bits, *nonzero, k) {
                        if run == 0 {
                            break;
                        }
                        run -= 1;
                    }
                    k += 1;
                }
                if k <= last && size != 0 {
                    *nonzero |= 1 << k;
                }
                k += 1;
                if bits.overread() {
                    return Ok(());
                }
            }
        }
        if *end_of_band > 0 {
            while k <= last {
                refine(bits, *nonzero, k);
                k += 1;
            }
            *end_of_band -= 1;
        }
        Ok(())
    }
}

fn sequential_block(
    bits: &mut Bits<'_>,
    (dc, ac): (Option<&Huffman>, Option<&Huffman>),
) -> Result<(), Damage> {
    let length = bits.length(dc)?;
    bits.skip(length);
    let mut k = 1;
    while k < BLOCK {
        let symbol = bits.symbol(ac)?;
        let (run, size) = (usize::from(symbol >> 4), symbol & 15);
        if size == 0 && run < 15 {
            break;
        }
        bits.skip(size);
        k += run + 1;
    }
    Ok(())
}

/// A scan's data bit by bit; zeros behind its end, which are counted.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    held: u32,
    /// Bits that were made up.
    made_up: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            buffer: 0,
            held: 0,
            made_up: 0,
        }
    }

    fn fill(&mut self) {
        while self.held <= 48 {
            let byte = match self.bytes.get(self.at..).unwrap_or_default() {
                [0xff, 0, ..] => {
                    self.at += 2;
                    0xff
                }
                [byte, ..] if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                // A marker, or the end of the file.
                rest => {
                    if rest.len() < 2 {
                        self.at = self.bytes.len();
                    }
                    self.made_up += 8;
                    0
                }
            };
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.held += 8;
        }
    }

    /// Whether bits were used that there are not.
    fn overread(&self) -> bool {
        self.made_up > self.held
    }

    fn skip(&mut self, count: u8) {
        if self.held < u32::from(count) {
            self.fill();
        }
        self.held -= u32::from(count);
    }

    fn take(&mut self, count: u32) -> u32 {
        if self.held < count {
            self.fill();
        }
        self.held -= count;
        (self.buffer >> self.held) as u32 & ((1 << count) - 1)
    }

    fn symbol(&mut self, table: Option<&Huffman>) -> Result<u8, Damage> {
        let table = table.ok_or(Damage::Other("a scan names a table that there is not"))?;
        if self.held < 16 {
            self.fill();
        }
        let next = (self.buffer >> (self.held - 16)) as u32 & 0xffff;
        let (length, value) = table.short[(next >> 8) as usize];
        if length > 0 {
            self.held -= u32::from(length);
            return Ok(value);
        }
        for length in 9..=16 {
            let (first, place, count) = table.lengths[length];
            let code = next >> (16 - length);
            if let Some(index) = code.checked_sub(first).filter(|index| *index < count) {
                self.held -= length as u32;
                let value = table.values.get((place + index) as usize);
                return value.copied().ok_or(Damage::Other("a code has no value"));
            }
        }
        Err(Damage::Other("a code is none of its table's"))
    }

    /// How many bits of a mean follow.
    fn length(&mut self, table: Option<&Huffman>) -> Result<u8, Damage> {
        match self.symbol(table)? {
            length @ 0..=16 => Ok(length),
            _ => Err(Damage::Other("a code's value is out of range")),
        }
    }

    /// Goes on behind the restart marker of this number.
    fn restart(&mut self, number: u8) -> Result<(), Damage> {
        let mut at = self.end()?;
        match next_marker(self.bytes, &mut at)? {
            marker if marker == 0xd0 + number => {
                *self = Self::new(self.bytes, at);
                Ok(())
            }
            _ => Err(Damage::Other("a restart marker is missing")),
        }
    }

    /// Where the marker is that ends the data. Padding may stand before it, more data may not.
    fn end(&self) -> Result<usize, Damage> {
        let unread = self.held.saturating_sub(self.made_up) / 8;
        let left = self.buffer >> self.made_up & ((1u64 << (8 * unread)) - 1);
        let held = (0..unread).map(|byte| (left >> (8 * byte)) as u8);
        let is_padding = |byte: u8| byte == 0 || byte == 0xff;
        let mut padding = held.into_iter().all(is_padding);
        let mut at = self.at;
        loop {
            match self.bytes.get(at..).unwrap_or_default() {
                [0xff, code, ..] if *code != 0 && *code != 0xff => break,
                [byte, _, ..] => {
                    padding &= is_padding(*byte);
                    at += 1;
                }
                _ => return Err(Damage::Cut),
            }
        }
        match padding {
            true => Ok(at),
            false => Err(Damage::Other(
                "a scan holds more data than the image has room for",
            )),
        }
    }
}
