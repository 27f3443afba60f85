//! WAVs with their chunks in many orders, for tests, with the feature `measure`.

/// The form of a WAV, and the names of its chunks.
type Order = (&'static [u8; 4], &'static [&'static [u8; 4]]);

/// Orders of chunks that other programs write. All of Palabre's programs must read past the chunks before `data`. The chunks after `data` must not be
/// played as sound.
const ORDERS: [Order; 24] = [
    (b"RIFF", &[b"fmt ", b"data"]),
    (b"RIFF", &[b"fmt ", b"data", b"levl"]),
    (b"RIFF", &[b"fmt ", b"data", b"cart"]),
    (b"RIFF", &[b"fmt ", b"data", b"acid"]),
    (b"RIFF", &[b"fmt ", b"data", b"inst"]),
    (b"RIFF", &[b"fmt ", b"data", b"axml"]),
    (b"RIFF", &[b"fmt ", b"data", b"bext"]),
    (b"RIFF", &[b"fmt ", b"data", b"LIST"]),
    (b"RIFF", &[b"fmt ", b"data", b"id3 "]),
    (b"RIFF", &[b"fmt ", b"data", b"DISP"]),
    (b"RIFF", &[b"fmt ", b"data", b"guan", b"wamd"]),
    (b"RIFF", &[b"fmt ", b"fact", b"data", b"PEAK"]),
    (b"RIFF", &[b"fmt ", b"LIST", b"data", b"levl"]),
    (b"RIFF", &[b"LIST", b"fmt ", b"data", b"afsp"]),
    (b"RIFF", &[b"JUNK", b"fmt ", b"data", b"smpl", b"cue ", b"LIST"]),
    (b"RIFF", &[b"bext", b"fmt ", b"data", b"iXML", b"_PMX"]),
    (b"RIFF", &[b"bext", b"iXML", b"fmt ", b"data", b"chna", b"axml", b"cart"]),
    (b"RIFF", &[b"fmt ", b"PAD ", b"data", b"strc", b"umid", b"minf", b"elm1", b"regn"]),
    (b"RF64", &[b"ds64", b"fmt ", b"data"]),
    (b"RF64", &[b"ds64", b"fmt ", b"data", b"levl"]),
    (b"RF64", &[b"ds64", b"bext", b"fmt ", b"data", b"axml", b"chna"]),
    (b"RF64", &[b"ds64", b"fmt ", b"JUNK", b"data", b"r64m"]),
    (b"BW64", &[b"ds64", b"fmt ", b"chna", b"data", b"axml"]),
    (b"BW64", &[b"ds64", b"JUNK", b"fmt ", b"data", b"dbmd", b"LIST"]),
];

/// Returns WAVs of `samples` (16 bits, one channel), each with the names of its chunks. The other chunks have an odd length. If
/// they were read as samples, they would be heard at almost full scale.
#[must_use]
pub fn wavs(rate_hz: u32, samples: &[i16]) -> Vec<(String, Vec<u8>)> {
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let wav = |(form, names): Order| {
        let words = names.iter().map(|name| String::from_utf8_lossy(&name[..]).trim_end().to_owned());
        let title = format!("{} {}", String::from_utf8_lossy(form), words.collect::<Vec<_>>().join(" "));
        (title, wav(rate_hz, form, names, &data))
    };
    ORDERS.into_iter().map(wav).collect()
}

fn wav(rate_hz: u32, form: &[u8; 4], names: &[&[u8; 4]], data: &[u8]) -> Vec<u8> {
    let mut chunks: Vec<u8> = b"WAVE".to_vec();
    let mut long_sizes_at = None;
    for name in names {
        let body = match *name {
            b"fmt " => {
                [&[1, 0, 1, 0][..], &rate_hz.to_le_bytes(), &(rate_hz * 2).to_le_bytes(), &[2, 0, 16, 0]].concat()
            }
            b"data" => data.to_vec(),
            b"ds64" => vec![0; 28],
            _ => [0x7F, 0x80].repeat(20)[..39].to_vec(),
        };
        let is_long = *name == b"data" && form != b"RIFF";
        let size = if is_long { u32::MAX } else { body.len() as u32 };
        if *name == b"ds64" {
            long_sizes_at = Some(chunks.len() + 8);
        }
        chunks.extend([&name[..], &size.to_le_bytes(), &body].concat());
        chunks.resize(chunks.len().next_multiple_of(2), 0);
    }
    if let Some(at) = long_sizes_at {
        let (file, data) = (chunks.len() as u64, data.len() as u64);
        chunks[at..at + 16].copy_from_slice(&[file.to_le_bytes(), data.to_le_bytes()].concat());
    }
    let size = if long_sizes_at.is_some() { u32::MAX } else { chunks.len() as u32 };
    [&form[..], &size.to_le_bytes(), &chunks].concat()
}
