import pytest

from fewshot.sam.hardware import has_processor_bfloat16, name_hardware


@pytest.mark.parametrize(
    ('flags', 'able'), [('avx2 avx512f', False), ('avx2 avx512_bf16', True), ('amx_bf16', True)]
)
def test_processor_is_named_by_what_it_multiplies(tmp_path, flags, able):
    (tmp_path / 'cpuinfo').write_text(f'processor : 0\nflags : {flags}\n')
    assert has_processor_bfloat16(tmp_path / 'cpuinfo') is able
    expected = 'processor with bfloat16' if able else 'processor without bfloat16'
    assert name_hardware(tmp_path, tmp_path) == expected


def test_machine_without_a_list_of_its_processor_is_named(tmp_path):
    assert name_hardware(tmp_path, tmp_path) == 'processor without bfloat16'


def test_gpus_are_named_by_their_models(tmp_path):
    for number, model in enumerate(['Tesla T4', 'NVIDIA H100', 'Tesla T4']):
        folder = tmp_path / 'driver' / 'nvidia' / 'gpus' / f'0000:0{number}:00.0'
        folder.mkdir(parents=True)
        (folder / 'information').write_text(f'Model: \t\t {model}\nIRQ: 16\n')
    assert name_hardware(tmp_path, tmp_path) == 'NVIDIA H100, Tesla T4'


def test_gpu_without_a_model_is_named(tmp_path):
    (tmp_path / 'nvidia0').touch()
    assert name_hardware(tmp_path, tmp_path) == 'GPU'
