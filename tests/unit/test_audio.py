"""Recordings of every kind, good and bad, and the log-mel spectrogram."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from max_whisper import audio
from max_whisper.errors import AudioError, AudioWarning

DATA = Path(__file__).parent.parent / "data"
JFK = DATA / "jfk.flac"
GOLDEN = np.load(DATA / "text" / "mel.npz")
CLIPS = {"jfk": JFK, "librivox-0880": DATA / "librivox" / "0880.flac"}


def write_wav(path: Path, samples: np.ndarray[Any, np.dtype[np.int16]], rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def encode(path: Path, samples: np.ndarray[Any, Any], codec: str, layout: str, rate: int) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        format_name = "flt" if samples.dtype == np.float32 else "s16"
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format=format_name, layout=layout)
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def sine(seconds: float, rate: int, channels: int = 1) -> np.ndarray[Any, np.dtype[np.int16]]:
    times = np.arange(int(seconds * rate)) / rate
    return np.repeat((8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)[:, None], channels, axis=1)


@pytest.mark.parametrize("name", CLIPS)
def test_sixteen_bit_samples_are_exact(name: str) -> None:
    samples = audio.load_audio(CLIPS[name])
    assert samples.dtype == np.float32
    assert ((samples * 32768)[::16] == GOLDEN[f"{name}_samples"]).all()


def test_path_stream_and_bytes_are_alike() -> None:
    wanted = audio.load_audio(str(JFK))
    raw = JFK.read_bytes()
    assert (audio.load_audio(raw) == wanted).all()
    assert (audio.load_audio(io.BytesIO(raw)) == wanted).all()
    with JFK.open("rb") as file:
        assert (audio.load_audio(file) == wanted).all()


def test_stream_that_cannot_seek() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = io.BytesIO(JFK.read_bytes())

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self.data.read(size)

    assert (audio.load_audio(Pipe()) == audio.load_audio(JFK)).all()


def test_tags_that_are_not_utf8(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "tagged.wav", sine(0.5, 16000), 16000)
    title = b"INAM\x06\x00\x00\x00caf\xe9\xff\x00"
    raw = path.read_bytes() + b"LIST" + (4 + len(title)).to_bytes(4, "little") + b"INFO" + title
    path.write_bytes(raw[:4] + (len(raw) - 8).to_bytes(4, "little") + raw[8:])
    assert len(audio.load_audio(path)) == 8000


def test_name_that_looks_like_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tape:1.flac").write_bytes(JFK.read_bytes())
    assert len(audio.load_audio("tape:1.flac")) == 176000


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (22050, 1), (44100, 2), (48000, 6), (96000, 8)])
def test_other_rates_and_channels(rate: int, channels: int, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "tone.wav", sine(0.5, rate, channels), rate)
    samples = audio.load_audio(path)
    assert abs(len(samples) - 8000) <= 1
    middle = slice(1000, 7000)
    tone = np.sin(2 * np.pi * 440 * np.arange(len(samples)) / 16000)
    # the mix may be louder or softer, but it is the same tone in the same place
    assert np.corrcoef(samples[middle], tone[middle])[0, 1] > 0.9999


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("m4a", "aac"), ("ogg", "libopus")])
def test_compressed_formats(suffix: str, codec: str, tmp_path: Path) -> None:
    path = encode(tmp_path / f"tone.{suffix}", sine(1, 48000), codec, "mono", 48000)
    samples = audio.load_audio(path)
    assert abs(len(samples) - 16000) <= 400
    spectrum = np.abs(np.fft.rfft(samples[:16000]))
    assert spectrum.argmax() * 16000 / 16000 == pytest.approx(440, abs=2)


def test_video_gives_its_sound(tmp_path: Path) -> None:
    import av

    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("flac", rate=16000, layout="mono")
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        picture.pts = 0
        frame = av.AudioFrame.from_ndarray(sine(0.5, 16000).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        packets = [*sound.encode(frame), *sound.encode(None), *video.encode(picture), *video.encode(None)]
        container.mux(packets)
    assert len(audio.load_audio(path)) == 8000


def test_another_target_rate() -> None:
    assert len(audio.load_audio(JFK, sr=8000)) == 88000
    with pytest.raises(AudioError, match="sample rate"):
        audio.load_audio(JFK, sr=0)


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.wav": (b"", "the file is empty"),
    "text.wav": (b"Dear diary,\nthis is no recording.\n" * 9, "not a recording"),
    "noise.flac": (bytes(range(256)) * 40, "not a recording|no audio stream"),
    "header.flac": (JFK.read_bytes()[:8300], "no audio could be decoded|not a recording"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_named(name: str, tmp_path: Path) -> None:
    content, reason = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=f"{name}: .*({reason})"):
        audio.load_audio(tmp_path / name)
    with pytest.raises(AudioError):
        audio.load_audio(content)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"none\.wav: no such file"):
        audio.load_audio(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="is a directory"):
        audio.load_audio(tmp_path)
    # what openai-whisper raises where FFmpeg fails
    with pytest.raises(RuntimeError):
        audio.load_audio(tmp_path / "none.wav")


def test_no_sound_in_it(tmp_path: Path) -> None:
    import av

    path = tmp_path / "mute.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux([*video.encode(picture), *video.encode(None)])
    with pytest.raises(AudioError, match="no audio stream"):
        audio.load_audio(path)


@pytest.mark.parametrize("size", [60_000, 100_000, 150_000])
def test_truncated_flac_is_read_as_far_as_it_goes(size: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    path.write_bytes(JFK.read_bytes()[:size])
    with pytest.warns(AudioWarning, match=r"cut\.flac: .*kept the \d+\.\d\d s that decode") as caught:
        samples = audio.load_audio(path)
    assert f"kept the {len(samples) / 16000:.2f} s" in str(caught[0].message)
    assert 16000 < len(samples) < 176000
    assert (samples == audio.load_audio(JFK)[: len(samples)]).all()


def test_flac_cut_between_frames_is_noticed(tmp_path: Path) -> None:
    raw = JFK.read_bytes()
    # A frame starts with this sync code; cutting there leaves nothing half decoded.
    starts = [i for i in range(100_000, 140_000) if raw[i : i + 2] == b"\xff\xf8"]
    path = tmp_path / "cut.flac"
    path.write_bytes(raw[: starts[0]])
    with pytest.warns(AudioWarning, match=r"cut\.flac"):
        audio.load_audio(path)


def test_not_a_number_in_a_float_file(tmp_path: Path) -> None:
    samples = np.zeros(16000, np.float32)
    samples[500] = np.nan
    path = encode(tmp_path / "nan.wav", samples, "pcm_f32le", "mono", 16000)
    with pytest.raises(AudioError, match=r"nan\.wav: .*NaN"):
        audio.load_audio(path)


def test_playlist_in_a_stream_opens_no_file() -> None:
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:11\n#EXTINF:11,\nfile://{JFK}\n#EXT-X-ENDLIST\n"
    with pytest.raises(AudioError):
        audio.load_audio(playlist.encode())


def test_arrays() -> None:
    ramp = np.linspace(-1, 1, 100)
    assert (audio.as_samples(ramp) == ramp.astype(np.float32)).all()
    assert (audio.as_samples(np.array([-32768, 16384], np.int16)) == [-1, 0.5]).all()
    assert audio.as_samples(np.empty(0, np.float32)).size == 0
    assert (audio.as_samples(JFK) == audio.load_audio(JFK)).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([0, np.nan, np.inf], np.float32), "2 of 3 audio samples are NaN or infinite"),
        (np.zeros((2, 16000), np.float32), r"not of shape \(2, 16000\)"),
        (np.zeros(100, np.int32), "not int32"),
        (np.array(["a"]), "float"),
        (0.5, r"shape \(\)"),
    ],
)
def test_arrays_that_are_no_audio(array: Any, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        audio.as_samples(array)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_channel_is_what_a_file_of_it_alone_would_be(rate: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-9000, 9000, (rate, 3)).astype(np.int16)
    both = audio.load_channels(write_wav(tmp_path / "both.wav", noise, rate))
    assert both.shape == (3, 16000) and both.dtype == np.float32
    for number, channel in enumerate(both):
        alone = write_wav(tmp_path / f"{number}.wav", noise[:, number : number + 1], rate)
        assert (audio.load_audio(alone) == channel).all()
    assert (audio.as_channels((tmp_path / "both.wav").read_bytes()) == both).all()


def test_channels_of_arrays() -> None:
    samples = np.array([[0, 16384, -16384], [1, 2, 3]], np.int16)
    assert audio.as_channels(samples)[0].tolist() == [0, 0.5, -0.5]
    assert audio.as_channels(samples / 32768)[0].tolist() == [0, 0.5, -0.5]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(100), "has one channel; leave multichannel out"),
        (np.zeros((1, 100)), "has one channel"),
        (np.zeros((100, 2)), "channels come first"),
        (np.zeros((2, 2, 100)), "two dimensions"),
        (np.full((2, 100), np.nan), "200 of 200 audio samples are NaN"),
        (np.zeros((2, 100), np.int64), "int64"),
    ],
)
def test_arrays_that_are_no_channels(array: Any, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        audio.as_channels(array)


def test_a_recording_of_one_channel_has_none_to_part() -> None:
    with pytest.raises(AudioError, match=r"jfk\.flac: the recording has one channel"):
        audio.as_channels(JFK)


def test_channels_that_change_their_number(tmp_path: Path) -> None:
    import av

    path = tmp_path / "changing.aac"  # raw frames, which can follow each other
    parts = []
    for layout, channels in (("stereo", 2), ("mono", 1)):
        with av.open(str(tmp_path / "part.aac"), "w", format="adts") as container:
            stream = container.add_stream("aac", rate=16000, layout=layout)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((channels, 1024), np.float32), format="fltp", layout=layout
            )
            frame.sample_rate = 16000
            container.mux([*stream.encode(frame), *stream.encode(None)])
        parts.append((tmp_path / "part.aac").read_bytes())
    path.write_bytes(b"".join(parts))
    with pytest.raises(AudioError, match="the number of channels changes"):
        audio.load_channels(path)


def test_pad_or_trim() -> None:
    array = np.arange(12).reshape(3, 4)
    assert (audio.pad_or_trim(array, 2) == array[:, :2]).all()
    assert (audio.pad_or_trim(array, 5, axis=0) == np.pad(array, [(0, 2), (0, 0)])).all()
    assert audio.pad_or_trim(array, 4) is not None
    assert audio.pad_or_trim(np.ones(3, np.float32)).shape == (480000,)


@pytest.mark.parametrize("bands", [80, 128])
def test_filters_equal_openai_whispers(bands: int) -> None:
    np.testing.assert_allclose(audio.mel_filters(bands), GOLDEN[f"filters_{bands}"], atol=5e-9)


@pytest.mark.parametrize("padding", [0, 480000])
@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("name", CLIPS)
def test_spectrogram_equals_openai_whispers(name: str, bands: int, padding: int) -> None:
    samples = audio.load_audio(CLIPS[name])
    mel = audio.log_mel_spectrogram(samples, bands, padding=padding)
    assert mel.shape == (bands, (len(samples) + padding) // 160)
    golden = GOLDEN[f"{name}_{bands}_{padding}"]
    difference = np.abs(mel[:, : len(samples) // 160 : 16] - golden)
    # Bins far below the loudest one of their frame carry the rounding of PyTorch's float32
    # transform; the same formula in float64 is as far from it.
    assert np.mean(difference > 1e-5) < 2e-3
    assert difference.max() < 3e-5


@pytest.mark.parametrize("padding", [0, 1, 150, 399, 400, 401, 560, 5000])
@pytest.mark.parametrize("size", [201, 1000, 16001])
def test_spectrogram_is_the_formula(size: int, padding: int) -> None:
    samples = np.random.default_rng(size).normal(0, 0.1, size).astype(np.float32)
    mel = audio.log_mel_spectrogram(samples, padding=padding)
    padded = np.pad(np.pad(samples.astype(np.float64), (0, padding)), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    count = (size + padding) // 160
    frames = np.stack([padded[160 * i : 160 * i + 400] * window for i in range(count)])
    power = audio.mel_filters(80).astype(np.float64) @ (np.abs(np.fft.rfft(frames)) ** 2).T
    logs = np.log10(np.maximum(power, 1e-10))
    np.testing.assert_allclose(mel, (np.maximum(logs, logs.max() - 8) + 4) / 4, atol=1e-5)


def test_spectrogram_of_silence_and_of_nothing() -> None:
    assert np.ptp(audio.log_mel_spectrogram(np.zeros(16000, np.float32))) == 0
    assert audio.log_mel_spectrogram(np.empty(0, np.float32), padding=480000).shape == (80, 3000)
    with pytest.raises(AudioError, match="more than 200 samples"):
        audio.log_mel_spectrogram(np.zeros(200, np.float32))
    with pytest.raises(ValueError, match="at least one"):
        audio.log_mel_spectrogram(np.zeros(16000, np.float32), n_mels=0)


def test_spectrogram_of_a_file_and_a_device() -> None:
    mel = audio.log_mel_spectrogram(str(JFK), device="cpu")
    assert (mel == audio.log_mel_spectrogram(audio.load_audio(JFK))).all()


def test_constants() -> None:
    assert audio.N_SAMPLES == 480000
    assert audio.N_FRAMES == 3000
    assert audio.FRAMES_PER_SECOND == 100
    assert audio.TOKENS_PER_SECOND == 50
