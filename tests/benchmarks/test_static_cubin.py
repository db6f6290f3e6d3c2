"""Reading of compiled GPU code: what the tools print, as text."""

import pytest


@pytest.fixture(scope="module")
def static_cubin(import_benchmark):
    return import_benchmark("static_cubin")


SASS = """
	code for sm_90
	.target	sm_90

		Function : _Z5firstPf
	.headerflags	@"EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                         /* 0x00000a00ff017b82 */
                                                                                  /* 0x000fe20000000800 */
        /*0010*/                   ULDC.64 UR6, c[0x0][0x238] ;                   /* 0x00008e0000067ab9 */
        /*0020*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR6][R2.64] ;      /* 0x0000000602048981 */
        /*0030*/                   LDG.E.LTC128B R8, desc[UR6][R2.64] ;           /* 0x0000000602048981 */
        /*0040*/               @P2 LDG.E.U16 R9, desc[UR6][R2.64+0x2] ;           /* 0x0000000602048981 */
        /*0050*/             @!UP0 LDG.E.S8 R9, desc[UR6][R2.64+0x2] ;            /* 0x0000000602048981 */
        /*0060*/                   STG.E.64 desc[UR6][R2.64], R4 ;                /* 0x0000000402007986 */
        /*0070*/                   STG.E.EF.128 desc[UR6][R2.64], R4 ;            /* 0x0000000402007986 */
        /*0080*/                   LDGSTS.E.BYPASS.LTC128B.128 [R5], desc[UR6][R2.64] ;
        /*0090*/                   LDGDEPBAR ;
        /*00a0*/                   LDS.128 R4, [R5] ;                             /* 0x0000000005047984 */
        /*00b0*/                   HMMA.16816.F32.BF16 R4, R4, R8, RZ ;           /* 0x000000080404723c */
        /*00c0*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], RZ, !UPT ;
        /*00d0*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], R24, gsb0 ;
        /*00e0*/                   FFMA R4, R4, R5, R6 ;                          /* 0x0000000504047223 */
        /*00f0*/                   HFMA2.MMA R4, -RZ, RZ, 0, 0 ;                  /* 0x00000000ff047435 */
        /*0100*/                   UTMALDG.2D [UR8], [UR4] ;                      /* 0x00000008040075b4 */
        /*0110*/                   EXIT ;                                         /* 0x000000000000794d */

		Function : second
	.headerflags	@"EF_CUDA_SM90 EF_CUDA_VIRTUAL_SM(EF_CUDA_SM90)"
        /*0000*/                   STL.64 [R1+0x8], R4 ;                          /* 0x0000080401007387 */
        /*0010*/                   LDL R4, [R1+0x8] ;                             /* 0x0000080001047983 */
        /*0020*/                   LDL.LU.128 R4, [R1+0x8] ;                      /* 0x0000080001047983 */
        /*0030*/                   UTCHMMA gdesc[UR8], gdesc[UR10], tmem[UR4], tmem[UR12], idesc[UR13], UP0 ;
        /*0040*/                   ATOMS.OR RZ, [R2], R3 ;                        /* 0x000000030200738c */
        /*0050*/                   REDUX UR4, R4 ;                                /* 0x00000000040473c4 */
        /*0060*/                   REDG.E.ADD.F32.FTZ.RN.STRONG.GPU desc[UR4][R2.64], R5 ;
        /*12340*/                  ATOMG.E.ADD.STRONG.GPU PT, R3, desc[UR4][R2.64], R5 ;
		..........
"""


def test_instructions_are_sorted_by_kind_and_width(static_cubin):
    first, second = static_cubin.parse_instructions(SASS).values()
    assert first == static_cubin.Instructions(
        tensor={"HGMMA": 2, "HMMA": 1},
        loads={16: 1, 4: 1, 2: 1, 1: 1},
        stores={16: 1, 8: 1},
        copies={"LDGSTS.16": 1, "UTMALDG": 1},
        atomics=0,
        local_bytes=0,
    )
    assert second == static_cubin.Instructions({"UTCHMMA": 1}, {}, {}, {}, atomics=2, local_bytes=28)
    assert list(static_cubin.parse_instructions(SASS)) == ["_Z5firstPf", "second"]


RESOURCES = """
Resource usage:
 Common:
  GLOBAL:0
 Function _Z5firstPf:
  REG:96 STACK:0 SHARED:12668 LOCAL:0 CONSTANT[0]:697 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function second:
  REG:255 STACK:296 SHARED:0 LOCAL:0 CONSTANT[0]:560 TEXTURE:0 SURFACE:0 SAMPLER:0
"""

ELF = """
    9  2452c     30  0  4                    CUDA_INFO        0    3        0 .nv.info
    a  2455c    1f0  0  4                    CUDA_INFO       40    3       11 .nv.info._Z5firstPf

.nv.info
	<0x1>
	Attribute:	EIATTR_REGCOUNT
	Format:	EIFMT_SVAL
	Value:	function: second(0x29)	register count: 255

.nv.info._Z5firstPf
	<0x1>
	Attribute:	EIATTR_CUDA_API_VERSION
	Format:	EIFMT_SVAL
	Value:	0x82
	<0x10>
	Attribute:	EIATTR_MAX_THREADS
	Format:	EIFMT_SVAL
	Value:	0x10 0x8 0x1 
	<0x11>

.nv.info.second
	<0x1>
	Attribute:	EIATTR_REQNTID
	Format:	EIFMT_SVAL
	Value:	0x100 0x1 0x1 
	<0x35>
"""


def test_registers_stack_and_threads(static_cubin):
    assert static_cubin.parse_resources(RESOURCES) == {"_Z5firstPf": (96, 0), "second": (255, 296)}
    assert static_cubin.parse_threads(ELF) == {"_Z5firstPf": 128, "second": 256}


def test_without_cuobjdump_says_what_to_install(static_cubin, monkeypatch):
    monkeypatch.setattr(static_cubin, "find_cuobjdump", lambda: None)
    with pytest.raises(FileNotFoundError, match="install Triton or the CUDA toolkit"):
        static_cubin.read(b"")
